"""How long what names led to stays permitted (decision R1), and who keeps it so."""

from ipaddress import ip_address

import pytest

from services.agent.core.firewall.learned import learned_name
from services.agent.core.forwarder.learned import (
    KEEP_S,
    KEPT_PER_NAME,
    MOST,
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
    wanted = learned.asked(("lan", "web"), {"lan"}, "db.example", many, 660.0)
    assert [wanted[Use("lan", one)] for one in many] == [KEEP_S] * KEPT_PER_NAME + [660.0]
    assert {wanted[Use("web", one)] for one in many} == {660.0}
    again = learned.asked(("lan",), {"lan"}, "db.example", many[:1], 660.0)
    assert again == {Use("lan", many[0]): KEEP_S}, "one that is kept already counts once"


def test_more_addresses_than_there_is_room_for_are_refused_as_a_whole(learned: Learned) -> None:
    many = {Use("lan", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"): 60.0 for number in range(MOST - 3)}
    learned.put(many, 1000.0)
    assert len(learned) == MOST
    assert learned.asked(("lan",), (), "x", ("10.9.0.1",), 60.0) == {LAN: 60.0}
    with pytest.raises(OverflowError):
        learned.asked(("lan",), (), "x", ("10.9.0.1", "192.0.2.1"), 60.0)
    learned.forget({"lan"}, 1060.0)
    assert learned.asked(("lan",), (), "x", ("192.0.2.1",), 60.0)


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
