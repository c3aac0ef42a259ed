"""What a kind of unit says of itself. The kinds are listed in core/feed/units/__init__.py.

A unit is the smallest part of the feed that is computed at once; each document belongs to exactly one. The running
projector recomputes the units that a commit touched (incremental.py) and gets what all of them together would give.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from services.management.core.feed.visibility import Sight
from services.management.core.model.entity import EntityBase
from services.management.core.model.policy import PolicyRule
from services.management.core.state import AccountState
from shared.events.documents import Document, ResolvedName, Withdrawn
from shared.events.subjects import FeedKey

E = TypeVar("E", bound=EntityBase)

Documents: TypeAlias = dict[FeedKey, Document]
Copies: TypeAlias = Iterator[tuple[str, str, Document]]
"""Audience, id and document."""

Resolutions: TypeAlias = Mapping[str, tuple[ResolvedName, ...]]
"""Route id → what the resolver found for its names. A route without an entry has no resolution document."""


class LastWord(msgspec.Struct, frozen=True, gc=False):
    """What was heard last of a peer: by signal whether its agent is there, by the agent itself what it carries."""

    agent: bool
    draining: bool = False
    withdrawn: tuple[Withdrawn, ...] = ()
    holds: tuple[str, ...] = ()


class Observed(msgspec.Struct, frozen=True, gc=False):
    """The facts of an account. last_words: peer id → what was heard last; nothing for a peer never heard of.

    versions: peer id → what its agent reported last; nothing for one that reported none since it enrolled. unseen: ids
    of peers that have been away for UNSEEN_S.
    """

    resolutions: Resolutions = {}
    last_words: Mapping[str, LastWord] = {}
    versions: Mapping[str, str] = {}
    unseen: frozenset[str] = frozenset()


NOTHING = Observed()


class Unit(msgspec.Struct, frozen=True, gc=False):
    """kind: name of a UnitKind. id: of its entity; SETTINGS_ID for the settings."""

    kind: str
    id: str


class Topic(msgspec.Struct, frozen=True, gc=False):
    """Something that documents depend on besides the entity they are about; a change of it touches their units."""

    kind: str
    id: str = ""


VIEWERS = "viewers"
"""Topic: which audiences see the members of the audience `id`."""

NAMED = "named"
"""Topic: whether any policy rule or route names the group `id`."""

FORWARDER_PORT = Topic("forwarder port")
EVERYTHING = Topic("everything")
"""Every unit of the account is touched."""


class Relations(Protocol):
    """What follows from the whole account, and would be expensive to find out anew for each document."""

    def viewers(self, audience: str) -> Iterable[str]:
        """Audiences that see the members of `audience`."""

    def is_named(self, group_id: str) -> bool:
        """Whether any policy rule or route of the account names the group."""

    def rules_to(self, group_id: str) -> Iterable[PolicyRule]:
        """Rules in force that have the group among their destinations."""

    def forwarder_port(self) -> int:
        """Decision D1, by what every peer reported last."""


class Given(msgspec.Struct, frozen=True, gc=False):
    """All that documents are made of: intent, what follows from it, and facts."""

    state: AccountState
    relations: Relations
    observed: Observed


def _id_in_key(key: FeedKey, document: Any) -> str:
    return key.id


class UnitKind(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """The units of one kind: one for each entity of a kind.

    name: what Unit.kind says. makes: the struct of its documents; no other kind makes the same.
    documents: those of a unit, nothing for one that the account does not have (any more).

    Where in FEED:
    only_id: id of the only unit, where a unit has not the id of its entity. owner_of: id of the unit that a document
    with that key belongs to.
    late: which documents are written after the others of their kind. withdrawn_first: of a large change, units that are
    no more are withdrawn before anything new is written.

    What touches a unit, beside a change of its entity:
    parts: other kinds of entities that its documents show, each with what finds the id of the unit that shows one.
    follows: another kind; its units touch those with the same id. needs: topics that an entity's documents depend on.
    listens: kind of topic → ids of the units that depend on the topic with that id; for what `needs` would make a large
    index of.

    What a change of an entity means to other units:
    raises: topics that have changed with it; old is None for a new entity, new for a deleted one.
    names: groups that it names, which peers are then shown with. shows: what its unit shows to whom; it may look at
    the state and at the rules, not at viewers.
    """

    name: str
    entity: type[E]
    makes: type[Document]
    documents: Callable[[Given, str], Copies]
    only_id: str = ""
    owner_of: Callable[[FeedKey, Any], str] = _id_in_key
    late: Callable[[Any], bool] | None = None
    withdrawn_first: bool = False
    parts: Mapping[type[EntityBase], Callable[[Any], str]] = {}
    follows: str = ""
    needs: Callable[[E], set[Topic]] | None = None
    listens: Mapping[str, Callable[[AccountState, str], Iterable[str]]] = {}
    raises: Callable[[AccountState, E | None, E | None], Iterable[Topic]] | None = None
    names: Callable[[E], set[str]] | None = None
    shows: Callable[[AccountState, Relations, str], set[Sight]] | None = None

    def units(self, state: AccountState) -> Iterator[Unit]:
        """Every unit of the kind that the account has; some have no documents."""
        name, only_id = self.name, self.only_id
        return (Unit(name, only_id or entity_id) for entity_id in state.table(self.entity))

    def unit(self, entity_id: str) -> Unit:
        return Unit(self.name, self.only_id or entity_id)
