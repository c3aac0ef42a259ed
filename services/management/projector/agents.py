"""Which version the agent of each peer has, and who was not seen for long: the forwarder's port depends on it (D1)."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from services.management.core.feed.forwarder import UNSEEN_S
from services.management.ports import Fold
from services.management.projector.lastwords import Newest
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import SessionFact, Short


class Reported(msgspec.Struct, frozen=True, gc=False, tag="report.v1"):
    """Of a ReportFact what is asked here; the routes of a host with many are 100 KB that need not be decoded."""

    peer_id: str
    version: Short


class Heard(NamedTuple):
    """version: "" for one that reported none."""

    version: str
    unseen: bool


class Agents:
    """Follows reports, and asks for sessions. session: the newest of a peer. now: unix seconds.

    A peer that signal says nothing of counts as seen: its fact may be lost. on_change: called with account and peer
    when another version was reported.
    """

    def __init__(
        self,
        fold: Fold,
        undecodables: Undecodables,
        session: Callable[[str, str], SessionFact | None],
        now: Callable[[], float],
        on_change: Callable[[str, str], None],
    ) -> None:
        self._session = session
        self._now = now
        self.reports = Newest(Reported, subjects.FACT_REPORTS, _if_other, fold, undecodables, on_change)

    def of(self, account: str, peer_id: str) -> Heard:
        report, session = self.reports.of(account, peer_id), self._session(account, peer_id)
        away = session is not None and not session.connected and self._now() - session.since >= UNSEEN_S
        return Heard(report.version if report else "", away)


def _if_other(fact: Reported, known: Reported | None) -> Reported | None:
    return None if known and known.version == fact.version else fact
