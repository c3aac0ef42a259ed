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
    "network, reason",
    [
        ("127.0.0.0/8", "127.0.0.0/8 is loopback"),
        ("::1/128", "::1/128 is loopback"),
        ("169.254.0.0/16", "169.254.0.0/16 is link-local"),
        ("fe80::/10", "fe80::/10 is link-local"),
        ("224.0.0.0/4", "224.0.0.0/4 is multicast"),
        ("ff02::1/128", "ff02::1/128 is multicast"),
        ("0.1.2.0/24", "0.1.2.0/24 is part of the unspecified network"),
        ("240.0.0.0/4", "240.0.0.0/4 is reserved"),
        ("255.255.255.255/32", "255.255.255.255/32 is the broadcast address"),
        ("100.64.7.0/24", "100.64.7.0/24 lies inside the overlay 100.64.0.0/16"),
        ("fd00:64::7/128", "fd00:64::7/128 lies inside the overlay fd00:64::/64"),
    ],
)
def test_a_route_that_no_host_uses_is_taken_with_the_hosts_reason(network: str, reason: str) -> None:
    [warning] = created(fixture(), **CLOSED, network=network).warnings
    assert (warning.code, warning.message) == ("unroutable", f"no host uses this route: {reason}")


@pytest.mark.parametrize("given, stored", [("1.2.3.4/0", "0.0.0.0/0"), ("2001:db8::1/0", "::/0")])
def test_r6_host_bits_that_were_masked_into_an_exit_are_reported(given: str, stored: str) -> None:
    saved = created(fixture(), **CLOSED, network=given)
    assert [warning.code for warning in saved.of_request] == ["host-bits"]
    assert f"{given} without its host bits is {stored}" in saved.of_request[0].message


@pytest.mark.parametrize(
    "fields",
    [{"network": "0.0.0.0/0"}, {"network": "::/0"}, {"network": "10.5.5.5/16"}, {"domains": ("example.com",)}],
)
def test_r6_a_route_that_leads_where_it_was_asked_to_is_not_reported(fields: dict[str, Any]) -> None:
    assert created(fixture(), **CLOSED, **fields).of_request == ()


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
