"""How long what names led to stays permitted (decision R1), and who keeps it so."""

from ipaddress import ip_address

import pytest

from services.agent.core.firewall.learned import learned_name
from services.agent.core.forwarder.learned import (
    CROWDED,
    IN_USE_S,
    KEEP_S,
    KEPT_PER_NAME,
    MOST,
    MOST_OF_ONE,
    Learned,
    Use,
    batches,
    elements,
    used,
)
from services.agent.core.ha.flows import Flow

ALICE, BOB = "100.64.0.7", "fd00:64::8"
LAN, WEB = Use("lan", "10.9.0.1"), Use("web", "10.9.0.1")
ASKERS = {ALICE: ("lan",), BOB: ("lan", "web")}


def flow(source: str, destination: str) -> Flow:
    return Flow(
        version=6 if ":" in source else 4,
        protocol=6,
        source=int(ip_address(source)),
        destination=int(ip_address(destination)),
    )


@pytest.fixture
def learned() -> Learned:
    made = Learned()
    made.put({LAN: 660.0, WEB: 60.0, Use("lan", "fd00:9::1"): 600.0}, 1000.0)
    return made


def test_an_address_goes_into_the_set_of_its_route_and_family() -> None:
    wanted = {LAN: 660.0, WEB: 60.0, Use("lan", "fd00:9::1"): 600.0}
    assert elements(wanted) == {
        learned_name("lan", 4): {"10.9.0.1": 660.0},
        learned_name("web", 4): {"10.9.0.1": 60.0},
        learned_name("lan", 6): {"fd00:9::1": 600.0},
    }


def test_nothing_is_shortened_and_what_is_there_for_longer_is_not_written_again(learned: Learned) -> None:
    assert learned.longer({LAN: 600.0, WEB: 600.0}, 1000.0) == {WEB: 600.0}
    assert learned.longer({LAN: 661.0}, 1000.0) == {LAN: 661.0}


def test_r1_a_route_that_keeps_addresses_has_them_for_seven_days_and_1024_of_a_name(learned: Learned) -> None:
    many = [f"10.8.{number >> 8}.{number & 255}" for number in range(KEPT_PER_NAME + 1)]
    wanted = learned.asked(("lan", "web"), {"lan"}, "db.example", many, 660.0, 1000.0)
    assert [wanted[Use("lan", one)] for one in many] == [KEEP_S] * KEPT_PER_NAME + [660.0]
    assert {wanted[Use("web", one)] for one in many} == {660.0}
    again = learned.asked(("lan",), {"lan"}, "db.example", many[:1], 660.0, 1000.0)
    assert again == {Use("lan", many[0]): KEEP_S}, "one that is kept already counts once"


def addresses(count: int, after: int = 0) -> list[str]:
    return [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(after, after + count)]


def test_more_addresses_than_a_route_has_room_for_are_refused_as_a_whole_and_others_go_on() -> None:
    learned = Learned()
    learned.put({Use("lan", one): 60.0 for one in addresses(MOST_OF_ONE - 1)}, 1000.0)
    with pytest.raises(OverflowError):
        learned.asked(("web", "lan"), {"lan"}, "x", ("192.0.2.1", "192.0.2.2"), 60.0, 1000.0)
    assert learned.asked(("lan",), (), "x", ("192.0.2.1", "10.0.0.1"), 60.0, 1000.0)
    assert learned.asked(("web",), (), "x", ("192.0.2.1", "192.0.2.2"), 60.0, 1000.0)
    learned.forget({"lan"}, 1060.0)
    assert learned.asked(("lan",), (), "x", ("192.0.2.1", "192.0.2.2"), 60.0, 1060.0)


def test_more_addresses_than_all_routes_have_room_for_are_refused() -> None:
    learned = Learned()
    routes = [f"r{number}" for number in range(MOST // MOST_OF_ONE)]
    learned.put({Use(route, one): 60.0 for route in routes for one in addresses(MOST_OF_ONE)}, 1000.0)
    assert len(learned) == MOST
    assert learned.asked(("r0",), (), "x", ("10.0.0.1",), 60.0, 1000.0)
    with pytest.raises(OverflowError):
        learned.asked(("other",), (), "x", ("10.0.0.1",), 60.0, 1000.0)


def test_r1_of_a_crowded_route_goes_what_was_not_used_for_longest_and_nothing_that_is_in_use() -> None:
    learned, now = Learned(), 1000.0
    old, newer = addresses(1000), addresses(MOST_OF_ONE - 1000, after=1000)
    for name, some, at in (("old", old, now), ("new", newer, now + 1.0)):
        for start in range(0, len(some), 500):
            wanted = learned.asked(("lan",), {"lan"}, f"{name}{start}", some[start : start + 500], 660.0, at)
            learned.put(wanted, at)
    assert learned.crowding(now + IN_USE_S) == []
    now += IN_USE_S + 2.0
    learned.use([Use("lan", old[0])], now)
    going = learned.crowding(now)
    assert len(going) == MOST_OF_ONE - int(CROWDED * MOST_OF_ONE)
    assert {use.address for use in going}.issuperset(old[1:])
    assert Use("lan", old[0]) not in going
    left = learned.drop(going, now)
    assert set(left) == set(going)
    assert len(learned) == MOST_OF_ONE - len(going)
    assert learned.crowding(now) == []
    assert learned.asked(("lan",), {"lan"}, "fresh", addresses(len(going), after=MOST_OF_ONE), 660.0, now)


def test_r1_what_makes_room_does_not_count_as_kept_of_its_name() -> None:
    learned, many = Learned(), addresses(KEPT_PER_NAME)
    learned.put(learned.asked(("lan",), {"lan"}, "x", many, 660.0, 1000.0), 1000.0)
    learned.drop([Use("lan", many[0])], 2000.0)
    assert learned.asked(("lan",), {"lan"}, "x", ("192.0.2.1",), 660.0, 2000.0) == {Use("lan", "192.0.2.1"): KEEP_S}


def test_where_all_routes_together_are_crowded_each_gives_back_what_is_more_than_its_share() -> None:
    learned = Learned()
    routes = [f"r{number}" for number in range(8)]
    learned.put({Use(route, one): 9e9 for route in routes for one in addresses(MOST // 8)}, 1000.0)
    going = learned.crowding(1000.0)
    assert {route: sum(use.route == route for use in going) for route in routes} == dict.fromkeys(routes, MOST // 32)


def test_what_ended_and_what_is_of_a_route_that_went_is_forgotten(learned: Learned) -> None:
    learned.forget({"lan", "web"}, 1061.0)
    assert learned.all(1061.0).keys() == {LAN, Use("lan", "fd00:9::1")}
    learned.forget({"web"}, 1061.0)
    assert learned.all(1061.0) == {}


def test_what_a_former_run_left_is_known_with_the_time_that_it_has(learned: Learned) -> None:
    filled = {learned_name("other", 4): {"192.0.2.1": 12.5}, learned_name("lan", 4): {"10.9.0.1": 5.0}, "held_v4": {}}
    learned.adopt(("other", "lan"), filled, 1000.0)
    assert learned.all(1000.0)[Use("other", "192.0.2.1")] == 12.5
    assert learned.all(1000.0)[LAN] == 660.0, "what this run knows is not older"


def test_what_ends_soon_is_looked_after_and_stays_for_whom_a_connection_leads_there_a6(learned: Learned) -> None:
    assert learned.due(1000.0) == [WEB]
    due = learned.due(1600.0)
    assert set(due) == {LAN, WEB, Use("lan", "fd00:9::1")}
    assert used(due, [flow(ALICE, "10.9.0.1")], ASKERS) == [LAN], "the other route is not for its source"
    assert set(used(due, [flow(ALICE, "10.9.0.1"), flow("100.64.0.99", "10.9.0.1")], ASKERS)) == {LAN}
    assert used(due, [flow(BOB, "fd00:9::1")], ASKERS) == [Use("lan", "fd00:9::1")]
    assert used(due, [], ASKERS) == []


def test_no_transaction_has_more_than_1000() -> None:
    wanted = {Use("lan", f"10.8.{number >> 8}.{number & 255}"): 60.0 for number in range(2500)}
    sizes = [len(some) for some in batches(wanted)]
    assert sizes == [1000, 1000, 500]
