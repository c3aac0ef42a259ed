"""How often one routing peer is spoken of."""

from nats.aio.client import Client

from services.management.core.feed.pace import Pace
from services.management.core.feed.published import Published
from services.management.projector.facts import Facts
from services.management.projector.lastwords import LastWords
from services.management.projector.projector import Projector
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import CandidacyFact
from tests.builders import ACCOUNT, intent, peer, route
from tests.support.bus import eventually
from tests.unit.management_feed.test_facts import FoldAt

GW = (ACCOUNT, "gw")


def test_a_few_changes_are_told_at_once_and_then_one_a_second() -> None:
    pace = Pace()
    assert [pace.changed(GW, 100.0) for _ in range(10)] == [0.0] * 8 + [1.0, None]
    assert pace.changed((ACCOUNT, "other"), 100.0) == 0.0
    pace.waited(GW)
    assert pace.changed(GW, 101.0) == 1.0
    pace.waited(GW)
    assert [pace.changed(GW, 110.0) for _ in range(9)] == [0.0] * 8 + [1.0]


def test_nothing_is_kept_of_who_was_quiet() -> None:
    pace = Pace()
    pace.changed(GW, 100.0)
    pace.forget(100.5)
    assert len(pace._used_until) == 1
    pace.forget(101.0)
    assert not pace._used_until


async def test_a_routing_peer_that_never_stops_changing_is_written_seldom_and_as_it_stands_last() -> None:
    fold = FoldAt()
    fold.intent = intent(peer("gw"), route("lan", peer="gw"))

    async def dial() -> Client:
        raise AssertionError("nobody dials here")

    words = LastWords(fold, Undecodables())
    projector = Projector(Client(), dial, fold, Undecodables(), words, Facts(fold, Undecodables()))
    projector._published = Published()
    told: list[bool] = []
    projector.on_presence = lambda account, _: told.append(words.of(account)["gw"].draining)
    for number in range(1, 1001):
        fact = CandidacyFact(peer_id="gw", epoch=1, number=number, draining=number % 2 == 0)
        words.candidacies.message(subjects.candidacy_fact(ACCOUNT, "gw"), encode(fact), number)
    assert len(told) == 8
    await eventually(lambda: len(told) == 9)
    assert told[-1] is True
