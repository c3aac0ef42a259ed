"""core/ha/holding.py: who answers for a return address, and after how long another one does.

The matrix: the bus is there or away x the holder is in the LAN or not x the holder is on the bus or not.
"""

import pytest

from services.agent.core.ha.holding import Announce, Ask, Holding
from shared.events.facts import LeaseFact
from shared.events.signals import Lease
from tests.unit.agent.ha_lan import World

PAIR = ("gw1", "gw2")


def settled(*names: str) -> World:
    world = World(names or PAIR)
    world.run(3.0)
    assert (world.holders(), world.lease.holder) == (["gw1"], "gw1")
    return world


def after(world: World, who: list[str], limit_s: float = 30.0) -> float:
    """Seconds until exactly these hold it."""
    began = world.now
    while world.holders() != who:
        assert world.now < began + limit_s, f"{world.holders()} hold it"
        world.run(0.01)
    return world.now - began


def test_the_first_in_rank_takes_it_once_and_keeps_it() -> None:
    world = settled("gw1", "gw2", "gw3")
    world.run(60.0)
    assert world.takes == ["gw1"]


# bus, holder in the LAN, holder on the bus: who holds it afterwards
MATRIX = {
    (True, True, True): ["gw1"],
    (True, True, False): ["gw1"],
    (True, False, False): ["gw2"],
    (False, True, False): ["gw1"],
    (False, False, False): ["gw2"],
}


@pytest.mark.parametrize(("bus", "in_lan", "on_bus"), MATRIX)
def test_whoever_answers_in_the_lan_keeps_it_and_whoever_does_not_is_followed(
    bus: bool, in_lan: bool, on_bus: bool
) -> None:
    world = settled()
    world.gateways["gw1"].bus, world.gateways["gw2"].bus = on_bus, bus
    world.gateways["gw1"].part = 0 if in_lan else 1
    world.run(20.0)
    there = [name for name in world.holders() if world.gateways[name].part == 0]
    assert there == MATRIX[bus, in_lan, on_bus]
    assert world.takes == ["gw1", *(["gw2"] if not in_lan else [])]


def test_a_holder_that_is_on_the_bus_and_hears_its_lan_no_more_gives_way_to_one_that_does() -> None:
    world = settled("gw1", "gw2", "gw3")
    world.gateways["gw1"].part = 1
    assert after(world, ["gw2"]) < 6.0
    world.run(20.0)
    assert world.holders() == ["gw2"]


def test_of_two_that_hear_nobody_the_holder_keeps_it() -> None:
    """Which of them is cut off nobody can tell; a probe target in the LAN can."""
    world = settled()
    world.gateways["gw1"].part = 1
    world.run(60.0)
    assert world.takes == ["gw1"]


def test_a_dead_holder_is_followed_within_two_thirds_of_a_second_also_without_a_bus() -> None:
    world = settled()
    world.off("gw1")
    assert after(world, ["gw2"]) < 0.67
    world = settled()
    for gateway in world.gateways.values():
        gateway.bus = False
    world.run(5.0)
    world.off("gw1")
    assert after(world, ["gw2"]) < 0.8


def test_a_holder_that_dies_with_the_bus_is_followed_as_soon() -> None:
    world = settled()
    for gateway in world.gateways.values():
        gateway.bus = False
    world.off("gw1")
    assert after(world, ["gw2"]) < 0.8


def test_a_withdrawn_holder_drops_it_at_once_and_the_next_one_has_it_within_a_tenth_of_a_second() -> None:
    world = settled("gw1", "gw2", "gw3")
    world.gateways["gw1"].able = False
    world.run(0.01)
    assert world.holders() == []
    assert after(world, ["gw2"]) < 0.1


def test_a_drained_holder_hands_it_over_and_holds_it_on_where_nobody_else_is() -> None:
    world = settled()
    world.gateways["gw1"].leaving = True
    assert after(world, ["gw2"]) < 0.1
    world.gateways["gw1"].leaving = False
    assert 3.0 < after(world, ["gw1"]) < 3.5
    world.gateways["gw2"].able = False
    world.gateways["gw1"].leaving = True
    world.run(5.0)
    assert world.holders() == ["gw1"]


def test_one_that_is_drained_before_it_has_the_address_leaves_it_to_another_though_the_lease_is_its_own() -> None:
    """As after a change of the route, or a start: the lease is there already, and the LAN is asked first."""
    world = World(PAIR)
    world.lease, world.number = LeaseFact(holder="gw1", at=0.0), 7
    world.run(0.1)
    assert world.holders() == []
    world.gateways["gw1"].leaving = True
    assert after(world, ["gw2"]) < 0.5
    assert world.takes == ["gw2"]


def test_the_preferred_one_asks_for_it_after_three_good_seconds_and_after_longer_the_more_often_it_fell() -> None:
    world = settled()
    gateway = world.gateways["gw1"]
    for least in (3.0, 6.0, 12.0):
        gateway.able = False
        after(world, ["gw2"])
        gateway.able = True
        assert least <= after(world, ["gw1"]) < least + 0.5
        world.run(0.5)


def test_a_new_holder_has_time_to_answer_before_it_is_contested() -> None:
    holding = Holding("gw2", 0.0)
    holding.candidate(True, frozenset({"gw1"}), 0.0)
    holding.told(Lease(number=0, holder=""), 0.0)
    for now in (0.0, 0.11, 0.22, 0.33):
        holding.advance(now)
    holding.told(Lease(number=1, holder="gw1"), 0.35)
    assert holding.wish().wish == "watch"


def test_a_contest_that_nobody_objects_to_takes_nothing_from_a_holder_that_answers_in_the_lan() -> None:
    """Its agent is frozen, or upgraded: its kernel carries on."""
    world = settled()
    world.off("gw1")
    after(world, ["gw2"])
    world.gateways["gw2"].agent = False
    world.boots("gw1")
    world.run(30.0)
    assert (world.holders(), world.lease.contender) == (["gw2"], "gw1")
    world.off("gw2")
    assert after(world, ["gw1"]) < 0.5
    world = settled()
    world.off("gw1")
    after(world, ["gw2"])
    world.gateways["gw2"].agent = False
    world.boots("gw1")
    world.run(30.0)
    world.gateways["gw2"].agent = True
    assert after(world, ["gw1"]) < 0.5


def test_a_frozen_or_killed_agent_costs_nothing_while_its_kernel_answers() -> None:
    world = settled()
    world.gateways["gw1"].agent = False
    world.run(120.0)
    assert world.takes == ["gw1"]
    world.restarts("gw1")
    world.run(5.0)
    assert (world.holders(), world.takes) == (["gw1"], ["gw1"])


def test_an_agent_that_starts_after_another_one_took_over_gives_it_up() -> None:
    world = settled("gw1", "gw2", "gw3")
    world.gateways["gw1"].agent = False
    world.gateways["gw1"].part = 1
    assert after(world, ["gw1", "gw2"]) < 2.0
    world.gateways["gw1"].part = 0
    world.restarts("gw1")
    after(world, ["gw2"], 2.0)


def test_two_that_took_it_without_a_bus_are_one_again_when_their_lan_is() -> None:
    world = settled()
    for gateway in world.gateways.values():
        gateway.bus = False
    world.gateways["gw2"].part = 1
    world.run(10.0)
    assert world.holders() == ["gw1", "gw2"]
    world.gateways["gw2"].part = 0
    after(world, ["gw1"], 3.0)
    world.run(20.0)
    assert world.holders() == ["gw1"]


def test_an_address_that_a_stranger_of_the_lan_has_is_left_to_it_and_told() -> None:
    holding = Holding("gw1", 0.0)
    holding.candidate(True, frozenset(), 0.0)
    holding.told(Lease(number=0, holder=""), 0.0)
    for tenth in range(1, 50):
        now = tenth / 10
        holding.advance(now)
        if any(isinstance(action, Ask) for action in holding.take()):
            holding.answered("02aabbccddee", now + 0.001)
    assert (holding.holds, holding.wish().wish, holding.stranger) == (False, "watch", "02aabbccddee")


def test_questions_go_to_whoever_answered_last_and_to_all_once_it_is_silent() -> None:
    holding = Holding("gw2", 0.0)
    holding.candidate(True, frozenset({"gw1"}), 0.0)
    holding.told(Lease(number=1, holder="gw1"), 0.0)
    holding.advance(0.0)
    assert holding.take() == [Ask("")]
    holding.answered("02aa", 0.001)
    for now, to in ((0.1, "02aa"), (0.21, ""), (0.32, "")):
        holding.advance(now)
        assert holding.take() == [Ask(to)]


def test_a_host_that_was_suspended_counts_one_question_and_not_the_time() -> None:
    holding = Holding("gw2", 0.0)
    holding.candidate(True, frozenset({"gw1"}), 0.0)
    holding.told(Lease(number=1, holder="gw1"), 0.0)
    holding.advance(0.0)
    holding.answered("02aa", 0.001)
    holding.advance(0.1)
    holding.advance(500.0)
    assert holding.wish().wish == "watch"


def test_what_the_kernel_has_is_announced_three_times() -> None:
    holding = Holding("gw1", 0.0)
    holding.candidate(True, frozenset(), 0.0)
    holding.told(Lease(number=1, holder=""), 0.0)
    holding.told(Lease(number=2, holder="gw1"), 0.0)
    assert holding.holds
    holding.advance(0.0)
    assert Announce() not in holding.take(), "the kernel would not answer yet"
    holding.present(True, 0.01)
    said = []
    for now in (0.01, 0.05, 0.11, 0.5, 1.01, 2.0):
        holding.advance(now)
        said += [now for action in holding.take() if action == Announce()]
    assert said == [0.01, 0.11, 1.01]


def used_over(world: World, *names: str) -> World:
    """Clients send through these, and have done so for a while."""
    world.clients = names
    world.run(6.0)
    return world


def test_a_holder_that_clients_do_not_reach_is_followed_though_it_answers_in_the_lan_and_is_without_the_bus() -> None:
    world = used_over(settled(), "gw1")
    world.gateways["gw1"].bus, world.clients = False, ()
    world.run(0.6)  # until clients find it silent
    world.clients = ("gw2",)
    world.run(0.25)
    assert (world.lease.holder, world.takes) == ("gw2", ["gw1", "gw2"])
    assert after(world, ["gw2"]) < 1.2, "the former one hears in the LAN that there is another"
    world.run(60.0)
    assert world.holders() == ["gw2"]


def test_a_holder_that_does_not_know_yet_that_it_is_without_the_bus_leaves_it_to_who_follows() -> None:
    world = used_over(settled(), "gw1")
    world.gateways["gw1"].bus, world.gateways["gw1"].unaware, world.clients = False, True, ("gw2",)
    world.run(0.5)
    assert world.takes == ["gw1", "gw2"]
    assert after(world, ["gw2"]) < 1.2
    world.run(60.0)
    assert world.takes == ["gw1", "gw2"]


def test_a_holder_that_is_back_and_ranks_first_takes_it_again_from_who_followed_it() -> None:
    world = used_over(settled(), "gw1")
    world.gateways["gw1"].bus, world.clients = False, ("gw2",)
    world.run(10.0)
    world.gateways["gw1"].bus = True
    assert after(world, ["gw1"]) < 10.0
    world.clients = ("gw1",)
    world.run(60.0)
    assert world.takes == ["gw1", "gw2", "gw1"]


def test_a_holder_that_clients_do_not_reach_gives_way_when_it_is_on_the_bus() -> None:
    world = used_over(settled(), "gw1")
    world.clients = ()
    world.run(0.6)  # until clients find it silent
    world.clients = ("gw2",)
    assert after(world, ["gw2"]) < 0.25


def test_a_holder_without_the_bus_that_clients_use_keeps_it() -> None:
    world = used_over(settled("gw1", "gw2", "gw3"), "gw1")
    world.gateways["gw1"].bus = False
    world.run(60.0)
    assert world.takes == ["gw1"]


def test_a_holder_that_some_clients_use_keeps_it_and_is_not_asked_without_end() -> None:
    world = used_over(settled(), "gw1")
    before, world.clients = world.number, ("gw1", "gw2")
    world.run(60.0)
    assert world.takes == ["gw1"]
    assert world.number - before < 24


def test_clients_that_follow_late_do_not_bring_it_back() -> None:
    world = used_over(settled(), "gw1")
    world.gateways["gw1"].leaving = True
    assert after(world, ["gw2"]) < 1.0
    world.gateways["gw1"].leaving = False
    world.run(1.5)
    world.clients = ("gw2",)
    world.run(1.0)
    assert world.takes == ["gw1", "gw2"]


def test_two_that_reach_different_clients_change_less_and_less_often() -> None:
    """Packets so sparse that the holder has often none when it is asked."""
    world = used_over(settled())
    takes = []
    for second in range(120):
        world.gateways[("gw1", "gw2")[second % 2]].sent_by_clients += 1
        world.run(1.0)
        takes.append(len(world.takes))
    assert takes[-1] <= 12
    assert takes[-1] - takes[59] <= takes[59]
