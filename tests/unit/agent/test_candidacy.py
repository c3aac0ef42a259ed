"""What this host can carry, judged from what its kernel says: each reason once (decision G3)."""

import errno
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest

from services.agent.core.ha.candidacy import Candidacy, Reason, Seen
from services.agent.core.ha.leading import Leading, entrance, leading, questions
from services.agent.core.ha.standing import Verdict
from services.agent.core.routing.following import Answer, Entrance
from shared.events.documents import Probe
from tests.unit.agent import make

NET = "10.9.0.0/24"
MIDDLE = "10.9.0.128"
OWN = Answer(device="eth1", table=254, prefix=NET, direct=True)
DEFAULT = Answer(device="eth0", table=254, prefix="0.0.0.0/0")
NOWHERE = Answer(refused="Network is unreachable", errno=errno.ENETUNREACH)
UNFORWARDED = Answer(refused="No route to host", errno=errno.EHOSTUNREACH)
PROBE = Probe(kind="tcp", address="10.9.0.2", port=443)
TARGET = "10.9.0.2 443"
ON = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
LOST = "the route into the network is gone, and only the default route is left; it was by eth1"


def route(network: str = NET, **fields: Any) -> Leading:
    return Leading(**{"route_id": "r", "networks": (ip_network(network),), "by_name": False, **fields})


def names(*addresses: str) -> Leading:
    return route(networks=tuple(map(ip_network, addresses)), by_name=True)


def judged(one: Leading, *answers: Answer, ways: Mapping[str, str] = {}, **fields: Any) -> str:
    """The reason, "" when the route is carried."""
    return reason(one, *answers, ways=ways, **fields).text


def reason(one: Leading, *answers: Answer, ways: Mapping[str, str] = {}, **fields: Any) -> Reason:
    """What the host says of it at once, or, where the loop may repair that, once it has not."""
    addresses = tuple(f"a{number}" for number in range(max(1, len(answers))))
    there = Seen(**{"overlay": "wt0", "settings": ON, "answers": dict(zip(addresses, answers, strict=False)), **fields})
    candidacy = Candidacy(ways)
    at_once = candidacy.judge([one], {"r": addresses}, there, 9.0)
    later_at = candidacy.look_again_at()
    found = at_once if later_at is None else candidacy.judge([one], {"r": addresses}, there, later_at)
    assert not (at_once and later_at)
    return found.get("r", Reason("way", ""))


@pytest.mark.parametrize(
    ("answer", "ways", "text"),
    [
        (OWN, {}, ""),
        (OWN, {NET: "eth7"}, ""),
        (DEFAULT, {}, ""),
        (DEFAULT, {NET: "eth1"}, LOST),
        (Answer(device="eth9", table=254, prefix="10.8.0.0/13"), {NET: "eth1"}, ""),
        (Answer(device="lo", table=255, prefix="10.9.0.128/32", direct=True), {}, ""),
        (NOWHERE, {}, "the kernel has no way there (Network is unreachable)"),
        (NOWHERE, {NET: "eth1"}, "the kernel has no way there (Network is unreachable); it was by eth1"),
        (
            Answer(refused="No route to host", errno=errno.EHOSTUNREACH),
            {},
            "the kernel has no way there (No route to host)",
        ),
        (
            Answer(refused="Permission denied", errno=errno.EACCES),
            {},
            "the kernel has no way there (Permission denied)",
        ),
        (Answer(refused="Invalid argument", errno=errno.EINVAL), {}, "the kernel has no way there (Invalid argument)"),
        (Answer(refused="Cannot allocate memory", errno=errno.ENOMEM), {NET: "eth1"}, ""),
        (Answer(device="eth1", prefix=NET, link="no carrier"), {}, "eth1 has no carrier"),
        (Answer(device="eth1", prefix=NET, link="down"), {}, "eth1 is down"),
        (Answer(device="wt0", prefix="10.0.0.0/8"), {}, "the way there leads back into wt0"),
    ],
)
def test_a_route_is_carried_as_long_as_the_kernel_has_a_way_there_g3(
    answer: Answer, ways: Mapping[str, str], text: str
) -> None:
    assert judged(route(), answer, ways=ways) == text


def test_one_way_of_several_is_enough_and_what_was_not_asked_is_no_reason() -> None:
    assert judged(route("10.0.0.0/8"), NOWHERE, OWN) == ""
    assert judged(route("10.0.0.0/8"), DEFAULT, OWN, ways={"10.0.0.0/8": "eth1"}) == ""
    assert judged(route(), ways={NET: "eth1"}) == ""


@pytest.mark.parametrize(
    ("fields", "cause", "text"),
    [
        (
            {"device": "gone", "trouble": "no /dev/net/tun"},
            "device",
            "the WireGuard device does not work: no /dev/net/tun",
        ),
        ({"device": "gone"}, "device", "there is no wt0, the WireGuard device"),
        ({"device": "down"}, "device", "wt0, the WireGuard device, is down"),
        ({"trouble": "it does not answer"}, "device", "the WireGuard device does not work: it does not answer"),
        ({"ruleset": "no memory"}, "ruleset", "nftables does not take the table: no memory"),
        (
            {"settings": {**ON, "net/ipv4/ip_forward": "0"}, "unrepaired": True},
            "forwarding",
            "forwarding is off: sysctl -w net/ipv4/ip_forward=1",
        ),
        (
            {"settings": {**ON, "net/ipv4/conf/eth1/forwarding": "0"}, "unrepaired": True},
            "forwarding",
            "forwarding is off: sysctl -w net/ipv4/conf/eth1/forwarding=1",
        ),
        (
            {"settings": {**ON, "net/ipv4/conf/wt0/forwarding": "0"}, "unrepaired": True},
            "forwarding",
            "forwarding is off: sysctl -w net/ipv4/conf/wt0/forwarding=1",
        ),
        ({"settings": {**ON, "net/ipv6/conf/all/forwarding": "0"}, "unrepaired": True}, "way", ""),
        ({"settings": {**ON, "net/ipv4/conf/eth0/forwarding": "0"}, "unrepaired": True}, "way", ""),
        ({"settings": {}}, "way", ""),
    ],
)
def test_a_host_that_does_not_forward_carries_nothing_g3(fields: dict[str, Any], cause: str, text: str) -> None:
    found = reason(route(), OWN, **fields)
    assert (found.cause, found.text) == (cause, text)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        ({"settings": {**ON, "net/ipv4/ip_forward": "0"}, "answer": UNFORWARDED}, "forwarding"),
        ({"device": "gone"}, "device"),
        ({"device": "down"}, "device"),
    ],
)
def test_what_the_loop_repairs_in_a_moment_makes_nobody_move_and_brings_nobody_back(
    broken: dict[str, Any], cause: str
) -> None:
    candidacy = Candidacy({})

    def withdrawn(now: float, answer: Answer = OWN, **fields: Any) -> list[str]:
        there = Seen(**{"overlay": "wt0", "settings": ON, "answers": {"a": answer}, **fields})
        return [one.cause for one in candidacy.judge([route()], {"r": ("a",)}, there, now).values()]

    assert withdrawn(10.0, **broken) == []
    assert candidacy.look_again_at() == 10.25
    assert withdrawn(10.1) == []
    assert candidacy.look_again_at() is None
    assert withdrawn(20.0, **broken) == []
    assert withdrawn(20.25, **broken) == [cause]
    assert candidacy.look_again_at() is None
    assert withdrawn(21.0) == []
    assert withdrawn(30.0, NOWHERE) == ["way"]
    assert withdrawn(30.1, **broken) == ["way"]
    assert withdrawn(30.2) == []


def test_names_are_carried_by_any_of_their_addresses_and_by_either_family() -> None:
    both = names("10.9.0.7", "2001:db8::7")
    assert judged(both, NOWHERE, OWN) == ""
    assert judged(both, NOWHERE, NOWHERE) == "the kernel has no way there (Network is unreachable)"
    assert judged(both, OWN, settings={**ON, "net/ipv6/conf/all/forwarding": "0"}, unrepaired=True) == ""
    off = dict.fromkeys(ON, "0")
    assert judged(both, OWN, settings=off, unrepaired=True) == "forwarding is off: sysctl -w net/ipv4/ip_forward=1"
    assert judged(names(), settings=off, unrepaired=True) == ""


def test_the_ways_of_the_last_run_are_known_until_the_network_is_served_no_more() -> None:
    candidacy = Candidacy({NET: "eth1", "10.7.0.0/16": "eth2"})
    candidacy.judge([route()], {"r": ("a",)}, seen_at(DEFAULT), 1.0)
    assert candidacy.ways == {NET: "eth1"}
    candidacy.judge([route()], {"r": ("a",)}, seen_at(Answer(device="eth3", prefix=NET)), 2.0)
    assert candidacy.ways == {NET: "eth3"}
    candidacy.judge([route("0.0.0.0/0")], {"r": ("a",)}, seen_at(DEFAULT), 3.0)
    assert candidacy.ways == {}


def seen_at(answer: Answer) -> Seen:
    return Seen(overlay="wt0", settings=ON, answers={"a": answer})


def test_a_silent_probe_target_withdraws_g3() -> None:
    probed = route(probe=PROBE)
    text = "the probe target is silent: tcp 10.9.0.2, port 443"
    assert judged(probed, OWN, targets={TARGET: "down"}) == text
    assert judged(probed, OWN, targets={TARGET: "unknown"}) == ""
    assert judged(probed, DEFAULT, ways={NET: "eth1"}, targets={TARGET: "unknown"}) == LOST
    icmp = Probe(kind="icmp", address="10.9.0.2")
    assert judged(route(probe=icmp), OWN, targets={"10.9.0.2 0": "down"}) == "the probe target is silent: icmp 10.9.0.2"


def test_a_probe_target_that_goes_on_answering_is_believed_over_a_lost_route_g3() -> None:
    candidacy = Candidacy({NET: "eth1"})

    def withdrawn(verdict: Verdict, now: float) -> bool:
        there = Seen(overlay="wt0", settings=ON, answers={"a": DEFAULT}, targets={TARGET: verdict})
        return bool(candidacy.judge([route(probe=PROBE)], {"r": ("a",)}, there, now))

    assert withdrawn("up", 10.0)
    assert candidacy.look_again_at() == 11.0
    assert withdrawn("down", 10.7)
    assert candidacy.look_again_at() is None
    assert withdrawn("up", 10.9)
    assert not withdrawn("up", 11.0)
    assert candidacy.ways == {}
    assert not withdrawn("up", 11.1)


@pytest.mark.parametrize(
    ("one", "legs", "asked"),
    [
        (route(), (), (MIDDLE,)),
        (route(), (NET,), (MIDDLE,)),
        (route(probe=PROBE), (NET,), ("10.9.0.2",)),
        (route("10.0.0.0/8"), ("10.9.0.0/24", "10.20.0.0/16", "192.0.2.0/24"), ("10.128.0.0", MIDDLE, "10.20.128.0")),
        (route("10.9.0.0/25"), (NET,), ("10.9.0.64",)),
        (route("0.0.0.0/0"), (NET,), ("128.0.0.0",)),
        (route("::/0"), ("fd00::/64",), ("3000::",)),
        (names("10.9.0.7", "2001:db8::7"), (NET,), ("10.9.0.7", "2001:db8::7")),
        (names(*(f"10.9.0.{last}" for last in range(20))), (), tuple(f"10.9.0.{last}" for last in range(8))),
    ],
)
def test_the_kernel_is_asked_about_few_addresses_of_a_route(
    one: Leading, legs: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    assert questions([one], map(ip_network, legs)) == {"r": asked}


def test_the_kernel_is_asked_as_by_packets_of_somebody_in_the_overlay() -> None:
    assert entrance(make.documents(), "wt0") == Entrance(
        device="wt0", sources={"v4": "100.64.128.0", "v6": "fd00:64:0:0:8000::"}
    )
    middle = make.documents(make.me(v4="100.64.128.0", v6=""))
    assert entrance(middle, "wt0").sources == {"v4": "100.64.128.1"}


def test_where_served_routes_lead_is_taken_from_the_documents() -> None:
    there = make.documents(
        routes=[
            make.served("lan", NET, probe=PROBE),
            make.served("names", domains=("a.example",)),
            make.served("none", domains=("b.example",), probe=Probe(kind="icmp", address="nowhere")),
            make.served("odd", "10.8.0.0/16", probe=PROBE),
            make.route("other"),
        ],
        resolutions=[make.resolution("names", a_example=("203.0.113.9",))],
    )
    assert leading(there, {"names", "lan", "gone", "odd", "none"}, ipv6=True) == (
        Leading(route_id="lan", networks=(ip_network(NET),), by_name=False, probe=PROBE),
        Leading(route_id="names", networks=(ip_network("203.0.113.9/32"),), by_name=True),
        Leading(route_id="none", networks=(), by_name=True),
        Leading(
            route_id="odd",
            networks=(ip_network("10.8.0.0/16"),),
            by_name=False,
            fault="its probe target 10.9.0.2 is not in 10.8.0.0/16",
        ),
    )
