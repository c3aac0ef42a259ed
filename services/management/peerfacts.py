"""What is observed of peers, for the API's answers: sessions, reports, and how many clients use each routing peer."""

from collections.abc import Iterator
from itertools import islice

from msgspec.structs import replace
from nats.aio.client import Client

from services.management.core.carriers import Carriers
from shared.bus.codec import decode
from shared.bus.lastvalues import follow
from shared.bus.streams import FACTS
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import SHORT, CandidacyFact, ReportFact, SessionFact
from shared.events.subjects import BadSubject, FactKey

MOST_ROUTES = 4096
"""Routes of a report that are counted: whatever a host reports is kept until its next report."""


class Presence:
    """The newest facts of every peer, by account and peer id. A peer nothing was ever heard of has none.

    Of the routes in a report, which are most of it (100 KB of a host that has 500), only who carries each is kept.
    """

    def __init__(self, undecodables: Undecodables) -> None:
        self._undecodables = undecodables
        self._sessions: dict[tuple[str, str], SessionFact] = {}
        self._reports: dict[tuple[str, str], ReportFact] = {}
        self._carriers = Carriers()
        self._found: set[FactKey] | None = None

    def session(self, account: str, peer: str, /) -> SessionFact | None:
        return self._sessions.get((account, peer))

    def report(self, account: str, peer: str, /) -> ReportFact | None:
        return self._reports.get((account, peer))

    def clients(self, account: str, route: str, routing_peer: str, /) -> int:
        """How many connected clients use the routing peer for the route, by their reports."""
        return self._carriers.clients(account, route, routing_peer)

    async def follow(self, connection: Client) -> None:
        """Keep up with FACTS until cancelled."""
        await follow(connection, FACTS, subjects.FACT_PEERS, self)

    def begin(self) -> None:
        self._found = set()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_fact(subject)
            self._take(key, decode(subject, data, SessionFact | ReportFact | CandidacyFact))  # type: ignore[arg-type]
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.FACT_PEERS, problem)

    def _take(self, key: FactKey, fact: SessionFact | ReportFact | CandidacyFact) -> None:
        if self._found is not None:
            self._found.add(key)
        peer = key.account, key.id
        if isinstance(fact, SessionFact):
            self._sessions[peer] = fact
            self._carriers.connected(peer, fact.connected)
        elif isinstance(fact, ReportFact):
            self._reports[peer] = replace(fact, routes=())
            self._carriers.chosen(peer, _choices(fact))

    def caught_up(self) -> None:
        """Forget what the snapshot did not bring: it has expired."""
        found, self._found = self._found or set(), None
        for facts, kind in ((self._sessions, "session"), (self._reports, "report")):
            for account, peer in list(facts):
                if FactKey(account, "peer", peer, kind) not in found:
                    del facts[account, peer]
                    if kind == "session":
                        self._carriers.connected((account, peer), False)
                    else:
                        self._carriers.chosen((account, peer), ())


def _choices(report: ReportFact) -> Iterator[tuple[str, str]]:
    """Route and the peer that carries it for the host, as far as they can be ids."""
    for route in islice(report.routes, MOST_ROUTES):
        if route.routing_peer and max(len(route.route_id), len(route.routing_peer)) <= SHORT:
            yield route.route_id, route.routing_peer
