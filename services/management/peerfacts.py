"""What is observed of peers, for the API's answers: sessions and reports without their routes, the last of each."""

from msgspec.structs import replace
from nats.aio.client import Client

from shared.bus.codec import decode
from shared.bus.lastvalues import follow
from shared.bus.streams import FACTS
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.facts import CandidacyFact, ReportFact, SessionFact
from shared.events.subjects import BadSubject, FactKey


class Presence:
    """The newest facts of every peer, by account and peer id. A peer nothing was ever heard of has none."""

    def __init__(self, undecodables: Undecodables) -> None:
        self._undecodables = undecodables
        self._sessions: dict[tuple[str, str], SessionFact] = {}
        self._reports: dict[tuple[str, str], ReportFact] = {}
        self._found: set[FactKey] | None = None

    def session(self, account: str, peer: str, /) -> SessionFact | None:
        return self._sessions.get((account, peer))

    def report(self, account: str, peer: str, /) -> ReportFact | None:
        return self._reports.get((account, peer))

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
        if isinstance(fact, SessionFact):
            self._sessions[key.account, key.id] = fact
        elif isinstance(fact, ReportFact):
            # Nothing here asks about the routes, which are most of a report: 100 KB of a host that has 500.
            self._reports[key.account, key.id] = replace(fact, routes=())

    def caught_up(self) -> None:
        """Forget what the snapshot did not bring: it has expired."""
        found, self._found = self._found or set(), None
        for facts, kind in ((self._sessions, "session"), (self._reports, "report")):
            for account, peer in list(facts):
                if FactKey(account, "peer", peer, kind) not in found:
                    del facts[account, peer]
