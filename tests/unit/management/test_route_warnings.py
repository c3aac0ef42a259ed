"""What a route's answer warns of (decisions A2, R9, G7)."""

from typing import Any

import pytest

from services.management.core.commands.routes import update_route
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from tests.builders import ALL, context, route
from tests.unit.management.routing import created, fixture, request

CLOSED = {"access_control_groups": ("rg1",), "masquerade": True}
"""Nothing to warn of by itself."""


def codes(state: AccountState, **fields: Any) -> list[str]:
    return [warning.code for warning in created(state, **fields).warnings]


def test_a2_a_route_without_access_control_groups_is_open() -> None:
    assert codes(fixture(), masquerade=True) == ["open-route"]
    assert codes(fixture(), **CLOSED) == []
    [warning] = created(fixture(), masquerade=True, groups=("rg1", "ha1")).warnings
    assert "every member of ha1, rg1" in warning.message


@pytest.mark.parametrize(
    "other, network, groups, overlaps",
    [
        ("192.168.0.0/16", "192.168.0.0/16", ("rg1",), True),
        ("192.168.0.0/16", "192.168.7.0/24", ("rg1",), True),
        ("192.168.7.0/24", "192.168.0.0/16", ("rg1",), True),
        ("192.168.0.0/16", "192.169.0.0/16", ("rg1",), False),
        ("192.168.0.0/16", "192.168.7.0/24", ("rg2",), False),
        ("192.168.0.0/16", "192.168.7.0/24", ("rg2", "rg1"), True),
        ("192.168.0.0/16", "192.168.7.0/24", (ALL,), True),
        ("0.0.0.0/0", "192.168.7.0/24", ("rg1",), False),
        ("192.168.7.0/24", "0.0.0.0/0", ("rg1",), False),
        ("0.0.0.0/0", "0.0.0.0/0", ("rg1",), True),
        ("::/0", "0.0.0.0/0", ("rg1",), False),
        ("fd00::/8", "fd00:1::/32", ("rg1",), True),
    ],
)
def test_r9_overlap_for_the_same_audience_is_reported(
    other: str, network: str, groups: tuple[str, ...], overlaps: bool
) -> None:
    state = fixture(route("other", other, peer="peer2", groups=("rg1",)))
    assert codes(state, **CLOSED, network=network, groups=groups) == (["overlap"] if overlaps else [])


def test_r9_the_report_names_what_overlaps() -> None:
    state = fixture(*(route(f"r{n}", f"192.168.{n}.0/24", peer="peer2") for n in range(5)))
    [warning] = created(state, **CLOSED).warnings
    assert "r0 (192.168.0.0/24), r1 (192.168.1.0/24), r2 (192.168.2.0/24) and 2 more" in warning.message


def test_r9_the_report_names_an_ha_set_once() -> None:
    members = (route(f"r{n}", "192.168.0.0/24", network_id="office", peer=f"peer{n}") for n in (2, 3))
    [warning] = created(fixture(*members), **CLOSED).warnings
    assert "with office (192.168.0.0/24): the longest" in warning.message


@pytest.mark.parametrize(
    "other",
    [
        route("happy", "192.168.0.0/16", peer="peer2", masquerade=True),
        route("other", "192.168.0.0/16", peer="peer2", enabled=False),
        route("other", domains=("example.com",), peer="peer2"),
    ],
    ids=["the same HA set (R5)", "disabled", "names"],
)
def test_r9_some_never_overlap(other: Route) -> None:
    assert codes(fixture(other), **CLOSED) == []


def test_r9_an_update_does_not_overlap_with_what_it_was() -> None:
    state = fixture(route("r", "192.168.0.0/16"))
    changed = request(**CLOSED, network="192.168.0.0/24")
    assert update_route(state, "r", changed, context()).result.warnings == ()


@pytest.mark.parametrize(
    "fields, mates, expected",
    [
        ({"peer_groups": ("ha1",)}, [], ["masquerade-off-in-ha-set"]),
        ({"peer": "peer1"}, [route("happy", "192.168.0.0/16", peer="peer2")], ["masquerade-off-in-ha-set"]),
        ({"peer_groups": ("ha1",), "masquerade": True}, [], []),
        ({"peer_groups": ("rg1",)}, [], []),
        ({"peer": "peer1"}, [], []),
        ({"peer": "peer1"}, [route("happy", "192.168.0.0/24", peer="peer2", groups=("rg2",))], []),
        ({"peer": "peer1"}, [route("other", "192.168.0.0/16", peer="peer2", groups=("rg2",))], []),
    ],
)
def test_g7_masquerade_off_with_several_routing_peers_is_reported(
    fields: dict[str, Any], mates: list[Route], expected: list[str]
) -> None:
    assert codes(fixture(*mates), **{**CLOSED, "masquerade": False, **fields}) == expected
