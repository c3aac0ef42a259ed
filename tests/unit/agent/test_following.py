"""What goes before a route of ours, judged from the kernel's answers."""

import pytest

from services.agent.core.kernel import RouteEntry
from services.agent.core.reconcile.desired import desired
from services.agent.core.routing.following import Answer, OtherRule, address_in, unfollowed, with_reasons
from services.agent.core.show.status import networks, route_states
from tests.unit.agent import make

OURS = Answer(device="wt0", table=7120, prefix="10.0.0.0/8", direct=True)
TUNNEL = OtherRule(family="v4", priority=90, table=51820)
LATER = OtherRule(family="v4", priority=32766, table=254)


def route(prefix: str, device: str = "wt0") -> dict[str, RouteEntry]:
    return {prefix: RouteEntry(prefix=prefix, device=device, unreachable=not device)}


@pytest.mark.parametrize(
    ("answer", "rules", "reason"),
    [
        (OURS, [TUNNEL, LATER], ""),
        (
            Answer(device="tun0", table=51820, prefix="0.0.0.0/0"),
            [LATER, TUNNEL, OtherRule(family="v6", priority=80, table=51820)],
            "rule 90 of another program goes before ours: table 51820 leads to tun0",
        ),
        (
            Answer(device="eth0", table=254, prefix="0.0.0.0/0"),
            [OtherRule(family="v4", priority=100, table=254), LATER],
            "rule 100 of another program goes before ours: table 254 leads to eth0",
        ),
        (
            Answer(device="eth0", table=254, prefix="10.0.0.0/7"),
            [LATER],
            "the host's own route 10.0.0.0/7 in table 254 goes before it to eth0",
        ),
        (
            Answer(device="eth0", table=254, prefix="10.0.0.0/8", direct=True),
            [],
            "this host is in 10.0.0.0/8 itself, by eth0",
        ),
        (Answer(device="eth0", table=254, prefix="10.128.0.0/24", direct=True), [], ""),
        (
            Answer(refused="Permission denied"),
            [OtherRule(family="v4", priority=7, table=0)],
            "the kernel has no way there (Permission denied): rule 7 of another program goes before ours",
        ),
        (Answer(refused="Network is unreachable"), [LATER], "the kernel has no way there (Network is unreachable)"),
    ],
)
def test_a_route_is_not_followed_when_something_as_wide_goes_first(
    answer: Answer, rules: list[OtherRule], reason: str
) -> None:
    found = unfollowed(route("10.0.0.0/8"), {"10.0.0.0/8": answer}, rules)
    assert found == ({"10.0.0.0/8": reason} if reason else {})


def test_an_unreachable_exit_is_not_to_lead_anywhere() -> None:
    assert unfollowed(route("0.0.0.0/0", ""), {"0.0.0.0/0": Answer(refused="Network is unreachable")}, []) == {}


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("10.0.0.0/8", "10.128.0.0"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "128.0.0.0"),
        ("0.0.0.0/1", "64.0.0.0"),
        ("::/0", "8000::"),
        ("fd00::/64", "fd00::8000:0:0:0"),
    ],
)
def test_the_kernel_is_asked_about_the_middle(prefix: str, address: str) -> None:
    assert address_in(prefix) == address


def test_networks_and_report_say_why_a_route_is_not_followed_also_one_for_names() -> None:
    there = make.documents(
        None,
        [make.peer("gw", number=2)],
        routes=[make.route("r1", "10.0.0.0/8"), make.route("r2", domains=("a.example",)), make.route("r3")],
        resolutions=[make.resolution("r2", a_example=("203.0.113.9",))],
    )
    local = make.local(["gw"])
    reasons = {"10.0.0.0/8": "it is elsewhere", "203.0.113.9/32": "that too"}
    shown = with_reasons(there, desired(there, local), reasons, ipv6=True)
    assert {one.id: one.reason for one in networks(there, local, shown, {})} == {
        "r1": "it is elsewhere",
        "r2": "that too",
        "r3": "",
    }
    assert {one.route_id: (one.state, one.error) for one in route_states(there, shown, {})} == {
        "r1": ("failed", "it is elsewhere"),
        "r2": ("failed", "that too"),
        "r3": ("installed", ""),
    }
