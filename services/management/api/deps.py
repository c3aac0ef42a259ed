"""What the API needs of the rest of management. wiring.py fills it in; tests/fakes/log.py stands in for the log."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from services.management.core.feed.unit import LastWord, Resolutions
from services.management.core.model.commit import Commit
from services.management.core.state import Intent
from services.management.ports import NEWEST, CommitPort
from shared.events.facts import ReportFact, SessionFact

T = TypeVar("T")


class EventsPort(Protocol):
    """The newest commits of an account with their LOG sequences, newest first, at most `limit`.

    Only those after the sequence `after` and before the sequence `before`.
    """

    def __call__(
        self, account: str, limit: int, /, *, after: int = 0, before: int = NEWEST
    ) -> Awaitable[Sequence[tuple[int, Commit]]]: ...


class FactsPort(Protocol):
    """The newest facts of a peer, held in memory; None when there are none."""

    def session(self, account: str, peer: str, /) -> SessionFact | None: ...

    def report(self, account: str, peer: str, /) -> ReportFact | None: ...

    def clients(self, account: str, route: str, routing_peer: str, /) -> int:
        """How many connected clients use the routing peer for the route."""


class TroublesPort(Protocol):
    """What keeps this replica from taking changes, or from serving at all (services/management/troubles.py)."""

    @property
    def lines(self) -> Sequence[str]:
        """One for each trouble, oldest first; empty when all is well."""

    @property
    def serves(self) -> bool:
        """Whether reads are answered."""

    @property
    def ready(self) -> bool:
        """Whether reads are answered here as well as anywhere."""

    def require_serving(self) -> None:
        """Raises NotServing while they are not."""


class Deps(msgspec.Struct, frozen=True, kw_only=True):
    """intent: the fold of the log that this replica answers from. last_words: account → peer → what was heard last.
    resolutions: account → route → names with their addresses.

    now: unix seconds. new_id: gives a new xid with each call. new_setup_key: gives a new key in clear text with each
    call, an upper-case UUID. troubles: what keeps this replica from taking changes, or from serving.
    """

    intent: Intent
    commit: CommitPort
    events: EventsPort
    facts: FactsPort
    last_words: Callable[[str], Mapping[str, LastWord]]
    resolutions: Callable[[str], Resolutions]
    now: Callable[[], float]
    new_id: Callable[[], str]
    new_setup_key: Callable[[], str]
    troubles: TroublesPort
