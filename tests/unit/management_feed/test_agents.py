"""What the projector takes of reports, and who counts as not seen for long (decision D1)."""

import pytest

from services.management.projector.agents import Agents, Heard
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import ReportFact, RouteState, SessionFact
from tests import builders
from tests.builders import ACCOUNT, NOW
from tests.unit.management_feed.test_facts import FoldAt

DAY = 86_400.0


class Scene:
    """The peer gw; `changed` gathers the peers whose version is another one."""

    def __init__(self, session: SessionFact | None = None) -> None:
        fold = FoldAt()
        fold.intent = builders.intent(builders.peer("gw"))
        self.changed: list[str] = []
        self.agents = Agents(
            fold,
            Undecodables(),
            lambda _account, _peer: session,
            lambda: NOW,
            lambda _, peer: self.changed.append(peer),
        )

    def report(self, version: str) -> None:
        fact = ReportFact(
            peer_id="gw",
            version=version,
            hostname="gw",
            os="Debian",
            kernel="6.12",
            backend="kernel",
            desired_revision=1,
            applied_revision=1,
            pending=0,
            routes=(RouteState(route_id="lan", state="serving"),),
        )
        self.agents.reports.message(subjects.report_fact(ACCOUNT, "gw"), encode(fact), 1)


def test_the_version_that_an_agent_reported_last_is_known_and_told_when_it_is_another() -> None:
    scene = Scene()
    assert scene.agents.of(ACCOUNT, "gw") == Heard("", False)
    for version in ("0.58.0", "0.58.0", "1.0.0", "1.0.0"):
        scene.report(version)
    assert scene.agents.of(ACCOUNT, "gw") == Heard("1.0.0", False)
    assert scene.changed == ["gw", "gw"]


@pytest.mark.parametrize(
    ("connected", "days", "unseen"),
    [(False, 30, True), (False, 29.9, False), (True, 400, False), (False, 0, False)],
)
def test_a_peer_is_unseen_when_it_went_thirty_days_ago(connected: bool, days: float, unseen: bool) -> None:
    session = SessionFact(peer_id="gw", epoch=1, connected=connected, since=NOW - days * DAY)
    assert Scene(session).agents.of(ACCOUNT, "gw").unseen is unseen
