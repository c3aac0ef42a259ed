"""LOG: one commit, one message on `log.<account>`."""

from typing import Literal, TypeAlias, get_args

import msgspec

from services.management.core.model.account import Account
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy
from services.management.core.model.route import Route
from services.management.core.model.setupkey import SetupKey
from services.management.core.model.user import AccessToken, User

Entity: TypeAlias = Account | Peer | Group | Policy | Route | SetupKey | User | AccessToken
Kind: TypeAlias = Literal["account", "peer", "group", "policy", "route", "setup-key", "user", "access-token"]

# Entities are gc=False, as is every value that a replica keeps by the ten thousand: a collection would hold the event
# loop while it walks them (40 ms at 5,000 peers), and frozen values are in no cycle.
KINDS: dict[type[Entity], Kind] = dict(zip(get_args(Entity), get_args(Kind), strict=True))


class Ref(msgspec.Struct, frozen=True, order=True):
    """Names one entity of an account."""

    kind: Kind
    id: str


def ref(entity: Entity) -> Ref:
    return Ref(KINDS[type(entity)], entity.id)


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who did it: a user's id, "sys" for the system itself, or a setup key's id for an enrolment."""

    id: str
    name: str = ""
    email: str = ""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the audit trail. code: NetBird's activity code such as "route.add" (reference §7)."""

    code: str
    target_id: str
    meta: dict[str, str | int | bool | list[str]] = {}


class Commit(msgspec.Struct, frozen=True, kw_only=True, tag="commit.v1"):
    """One accepted change of one account. Producer: management. Consumers: management's replicas. Key: account.

    at: unix seconds. activities: what it means to people, at least one. upserts replace whole entities; deletes
    remove them; an entity is in one of the two. Deleting a group takes its members out of it.
    """

    account: str
    at: float
    actor: Actor
    activities: tuple[Activity, ...]
    upserts: tuple[Entity, ...] = ()
    deletes: tuple[Ref, ...] = ()
