"""When people are told that a routing peer of an HA set has gone and is back."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.management.core.commands.outages import tell
from services.management.core.entities import Entity, Ref
from services.management.core.feed.unit import LastWord
from services.management.core.model.commit import Activity
from services.management.core.model.peer import Outage
from services.management.core.outages import Outages, absence
from shared.events.documents import Withdrawn
from tests import builders
from tests.builders import ACCOUNT, NOW, context, group, intent, peer, route

THERE, AWAY = LastWord(agent=True), LastWord(agent=False)
LAN = route("lan", network_id="office", peer_groups=("gateways",))
DB = route("db", "10.7.0.0/24", network_id="db", peer_groups=("gateways",))
SINGLE = route("single", "10.8.0.0/24", network_id="single", peer="gw")
GATEWAYS = (group("gateways"), peer("gw", "gateways"), peer("gw2", "gateways"))


def without(*routes: str) -> LastWord:
    return LastWord(agent=True, withdrawn=tuple(Withdrawn(route, f"no leg for {route}") for route in routes))


class Scene:
    """An account whose clock a test moves; `told` gathers code and time of each entry, `meta` what it says."""

    def __init__(self, *entities: Entity) -> None:
        self.intent = intent(*GATEWAYS, *(entities or (LAN,)))
        self.now = 0.0
        self.words: dict[str, LastWord] = {"gw": THERE, "gw2": THERE}
        self.told: list[tuple[str, float]] = []
        self.entries: list[Activity] = []
        self.takes_over()

    def takes_over(self) -> None:
        """Another replica goes on: it knows the log and what was heard last."""
        self.outages = Outages(self._find)
        self._look()

    def change(self, *entities: Entity, deletes: tuple[Ref, ...] = ()) -> None:
        self.intent.apply(self.intent.sequence + 1, builders.commit(*entities, deletes=deletes))
        self._look()

    def hear(self, word: LastWord | None, *, lasting_s: float = 0.0, peer: str = "gw") -> None:
        """It is said of the peer, and so much time passes, second by second."""
        if word is None:
            del self.words[peer]
        else:
            self.words[peer] = word
        self._look()
        self.let_pass(lasting_s)

    def let_pass(self, seconds: float) -> None:
        until = self.now + seconds
        self._tell()
        while self.now < until:
            self.now += 1
            self._tell()

    def _look(self) -> None:
        for id in ("gw", "gw2"):
            self.outages.look((ACCOUNT, id))

    def _find(self, place: tuple[str, str]) -> Any:
        state = self.intent.accounts[ACCOUNT]
        there = state.peers.get(place[1])
        return (state, there, self.words.get(place[1])) if there else None

    def _tell(self) -> None:
        news = [told for _, told in self.outages.due(self.now, NOW + self.now)]
        decision = tell(self.intent.accounts[ACCOUNT], news, context(NOW + self.now))
        if decision.commit:
            self.told += [(activity.code, self.now) for activity in decision.commit.activities]
            self.entries += decision.commit.activities
            self.intent.apply(self.intent.sequence + 1, decision.commit)


GONE, BACK = "routing.peer.gone", "routing.peer.return"


def test_an_agent_that_is_away_for_a_minute_is_told_of_and_that_it_is_back() -> None:
    scene = Scene(LAN, DB)
    scene.hear(AWAY, lasting_s=500)
    scene.hear(THERE, lasting_s=100)
    assert scene.told == [(GONE, 60.0), (BACK, 500.0)]
    gone, back = scene.entries
    assert (gone.target_id, gone.meta["name"], gone.meta["networks"]) == ("gw", "gw", ["db", "office"])
    assert (gone.meta["reason"], gone.meta["times"]) == ("its agent is not heard any more", 1)
    assert back.meta["after_s"] == 440


def test_an_agent_that_is_away_for_less_than_a_minute_is_not_told_of() -> None:
    scene = Scene()
    for _ in range(5):
        scene.hear(AWAY, lasting_s=59)
        scene.hear(THERE, lasting_s=1)
    assert scene.told == []


def test_a_gateway_that_withdraws_is_told_of_once_however_many_routes_follow() -> None:
    scene = Scene(LAN, DB)
    scene.hear(without("lan"), lasting_s=10)
    scene.hear(without("lan", "db"), lasting_s=10)
    scene.hear(replace(without("lan"), agent=False), lasting_s=100)
    scene.hear(without("db"), lasting_s=10)
    scene.hear(THERE, lasting_s=10)
    assert scene.told == [(GONE, 3.0), (BACK, 130.0)]
    assert scene.entries[0].meta["reason"] == "no leg for lan"
    assert scene.entries[0].meta["networks"] == ["office"]


@pytest.mark.parametrize(
    "entities",
    [
        (SINGLE,),
        (replace(LAN, enabled=False),),
        (LAN, peer("gw2")),
        (replace(LAN, peer_groups=(), peer="gw"), route("other", network_id="elsewhere", peer="gw2")),
        (replace(LAN, peer_groups=(), peer="gw"), route("m", network_id="office", peer="gw2", enabled=False)),
    ],
    ids=["alone", "disabled", "alone in its group", "another set", "a mate that is disabled"],
)
def test_a_peer_that_has_no_part_in_an_ha_set_is_not_told_of(entities: tuple[Entity, ...]) -> None:
    scene = Scene(*entities)
    scene.hear(AWAY, lasting_s=100)
    scene.hear(without("lan", "single"), lasting_s=100)
    assert scene.told == []


def test_r5_two_routes_of_one_network_make_an_ha_set() -> None:
    scene = Scene(replace(LAN, peer_groups=(), peer="gw"), route("mate", network_id="office", peer="gw2"))
    scene.hear(AWAY, lasting_s=100)
    assert scene.told == [(GONE, 60.0)]


def test_what_a_gateway_withdraws_from_counts_only_where_another_one_serves() -> None:
    scene = Scene(LAN, SINGLE)
    scene.hear(without("single"), lasting_s=100)
    assert scene.told == []


def test_whoever_comes_and_goes_is_told_of_once_in_ten_minutes_with_how_often_it_went() -> None:
    scene = Scene()
    for _ in range(6):
        scene.hear(without("lan"), lasting_s=50)
        scene.hear(THERE, lasting_s=50)
    scene.hear(without("lan"), lasting_s=100)
    assert scene.told == [(GONE, 3.0), (BACK, 50.0), (GONE, 603.0)]
    assert [entry.meta.get("times") for entry in scene.entries] == [1, None, 6]


def test_a_second_outage_after_ten_minutes_is_another_one() -> None:
    scene = Scene()
    for _ in range(2):
        scene.hear(AWAY, lasting_s=100)
        scene.hear(THERE, lasting_s=800)
    assert scene.told == [(GONE, 60.0), (BACK, 100.0), (GONE, 960.0), (BACK, 1000.0)]
    assert [entry.meta.get("times") for entry in scene.entries] == [1, None, 1, None]


def test_a_successor_tells_nothing_twice_and_what_is_left() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=100)
    scene.takes_over()
    scene.let_pass(200)
    scene.hear(THERE)
    assert scene.told == [(GONE, 60.0), (BACK, 300.0)]
    scene.takes_over()
    scene.hear(AWAY, lasting_s=400)
    assert scene.told[2:] == [(GONE, 660.0)]


def test_what_is_not_known_any_more_is_neither_gone_nor_back() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=100)
    scene.hear(None, lasting_s=100)
    scene.hear(THERE)
    assert scene.told == [(GONE, 60.0), (BACK, 200.0)]


def test_a_peer_that_was_told_of_is_back_when_it_is_though_it_serves_nothing_any_more() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=100)
    scene.change(deletes=(Ref("route", "lan"),))
    scene.let_pass(100)
    assert scene.told == [(GONE, 60.0)]
    scene.hear(THERE)
    assert scene.told == [(GONE, 60.0), (BACK, 200.0)]


def test_of_a_peer_that_is_deleted_nothing_more_is_told() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=30)
    scene.change(deletes=(Ref("peer", "gw"),))
    scene.let_pass(100)
    assert scene.told == []


def test_several_that_go_at_once_are_told_of_in_one_commit() -> None:
    scene = Scene()
    scene.hear(AWAY, peer="gw2")
    before = scene.intent.sequence
    scene.hear(AWAY, lasting_s=60)
    assert scene.told == [(GONE, 60.0), (GONE, 60.0)]
    assert scene.intent.sequence == before + 1


def test_a_decision_on_what_another_replica_has_told_already_commits_nothing() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=59)
    scene.now = 60.0
    news = [told for _, told in scene.outages.due(60.0, NOW + 60)]
    for expected in (True, False):
        decision = tell(scene.intent.accounts[ACCOUNT], news, context())
        assert (decision.commit is not None) is expected
        if decision.commit:
            scene.intent.apply(scene.intent.sequence + 1, decision.commit)


def test_who_still_misses_a_peer_that_another_replica_has_told_to_be_back_tells_nothing_for_a_while() -> None:
    scene = Scene()
    scene.hear(AWAY, lasting_s=59)
    news = [told for _, told in scene.outages.due(60.0, NOW + 60)]
    back = replace(scene.intent.accounts[ACCOUNT].peers["gw"], outage=Outage(at=NOW + 50, over=True))
    scene.change(back)
    for later, expected in ((60, False), (649, False), (650, True)):
        decision = tell(scene.intent.accounts[ACCOUNT], news, context(NOW + later))
        assert (decision.commit is not None) is expected, later


def test_a_clock_that_was_set_back_keeps_nothing_from_being_told() -> None:
    scene = Scene()
    scene.hear(without("lan"), lasting_s=10)
    scene.hear(THERE, lasting_s=10)
    scene.now -= 5000
    scene.hear(without("lan"), lasting_s=10)
    assert [code for code, _ in scene.told] == [GONE, BACK, GONE]


def test_nothing_is_missed_of_a_peer_that_nothing_was_heard_of() -> None:
    state = intent(*GATEWAYS, LAN).accounts[ACCOUNT]
    assert absence(state, state.peers["gw"], None) is None
