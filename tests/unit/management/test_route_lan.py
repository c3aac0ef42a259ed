"""What a route asks of its routing peers in the LAN: a target to probe (G3) and an address for replies (G7)."""

from typing import Any

import msgspec
import pytest

from services.management.core.commands.lan import ProbeRequest
from services.management.core.commands.routes import update_route
from services.management.core.model.route import Route
from services.management.errors import Invalid
from shared.events.documents import Probe, ProbeKind
from tests.builders import context, route
from tests.unit.management.routing import created, fixture, request, updated

LAN = "192.168.77.0/24"
ICMP = Probe(kind="icmp", address="192.168.77.10")
OTHER_SET = route("lab", "192.168.0.0/16", peer="peer3", return_address="192.168.77.250")
STORED = route("happy", LAN, peer="peer1", groups=("rg1",), probe=ICMP, return_address="192.168.77.250")


def probe(kind: ProbeKind, address: str, port: int = 0, interval_ms: int = 200) -> Probe:
    return Probe(kind=kind, address=address, port=port, interval_ms=interval_ms)


def ask(**fields: Any) -> ProbeRequest:
    return ProbeRequest(**fields)


@pytest.mark.parametrize(
    "asked, network, expected",
    [
        (ask(icmp="192.168.77.10"), LAN, ICMP),
        (ask(icmp="192.168.77.10", interval_ms=100), LAN, Probe(kind="icmp", address="192.168.77.10", interval_ms=100)),
        (ask(icmp="10.0.0.7", interval_ms=60_000), "10.0.0.7/32", probe("icmp", "10.0.0.7", 0, 60_000)),
        (ask(icmp="10.0.0.6"), "10.0.0.6/31", probe("icmp", "10.0.0.6")),
        (ask(icmp="FD00:0::1"), "fd00::/64", probe("icmp", "fd00::1")),
        (ask(tcp="192.168.77.10:8080"), LAN, probe("tcp", "192.168.77.10", 8080)),
        (ask(tcp="192.168.77.10:65535"), LAN, probe("tcp", "192.168.77.10", 65_535)),
        (ask(tcp="[fd00::1]:443"), "fd00::/64", probe("tcp", "fd00::1", 443)),
        (ask(icmp="1.1.1.1"), "0.0.0.0/0", probe("icmp", "1.1.1.1")),
    ],
)
def test_g3_a_probe_is_taken(asked: ProbeRequest, network: str, expected: Probe) -> None:
    assert created(fixture(), network=network, probe=asked).route.probe == expected


def test_g3_names_are_probed_at_any_address() -> None:
    asked = ask(tcp="203.0.113.7:443")
    assert created(fixture(), domains=("db.example",), probe=asked).route.probe == probe("tcp", "203.0.113.7", 443)


@pytest.mark.parametrize(
    "asked, network, reason",
    [
        (ask(), LAN, "probe: give either icmp or tcp"),
        (ask(icmp="192.168.77.10", tcp="192.168.77.10:80"), LAN, "probe: give either icmp or tcp"),
        (ask(icmp="10.0.0.1"), LAN, "probe: 10.0.0.1 is outside the route's network 192.168.77.0/24"),
        (ask(icmp="fd00::1"), LAN, "probe: fd00::1 is IPv6, and the route's network 192.168.77.0/24 is not"),
        (
            ask(icmp="192.168.77.0"),
            LAN,
            "probe: 192.168.77.0 is the address of the network 192.168.77.0/24 itself, no host's",
        ),
        (
            ask(tcp="192.168.77.255:1"),
            LAN,
            "probe: 192.168.77.255 is the broadcast address of 192.168.77.0/24, no host's",
        ),
        (ask(icmp="224.0.0.1"), "0.0.0.0/0", "probe: 224.0.0.1 is no host's address"),
        (ask(icmp="0.0.0.0"), "0.0.0.0/0", "probe: 0.0.0.0 is no host's address"),
        (ask(icmp="db.example"), LAN, "'db.example' is no address, and no name will do: write it as 192.168.77.10"),
        (ask(icmp=""), LAN, "probe: '' is no address"),
        (ask(icmp="fe80::1%eth0"), "fe80::/64", "no address"),
        (ask(icmp="::ffff:192.168.77.10"), LAN, "probe: write ::ffff:192.168.77.10 as 192.168.77.10"),
        (ask(tcp="192.168.77.10"), LAN, "has no port: write address:port"),
        (ask(tcp="fd00::1:443"), "fd00::/64", "write address:port, as in 192.168.77.10:8080 or [fd00::1]:443"),
        (ask(tcp=""), LAN, "has no port"),
        (ask(tcp="192.168.77.10:"), LAN, "the port must be between 1 and 65535, it is ''"),
        (ask(tcp="192.168.77.10:0"), LAN, "the port must be between 1 and 65535, it is '0'"),
        (ask(tcp="192.168.77.10:65536"), LAN, "it is '65536'"),
        (ask(tcp="192.168.77.10:８０"), LAN, "the port must be"),
        (ask(icmp="192.168.77.10", interval_ms=99), LAN, "interval_ms must be between 100 and 60000, it is 99"),
        (ask(icmp="192.168.77.10", interval_ms=60_001), LAN, "it is 60001"),
        (ask(icmp="192.168.77.10", interval_ms=0), LAN, "it is 0"),
    ],
)
def test_g3_a_probe_that_cannot_be_is_refused(asked: ProbeRequest, network: str, reason: str) -> None:
    with pytest.raises(Invalid) as problem:
        created(fixture(), network=network, probe=asked)
    assert reason in problem.value.message
    assert "\n" not in problem.value.message


def test_g3_a_name_is_no_target_of_a_route_to_names_either() -> None:
    with pytest.raises(Invalid, match=r"'db\.example' is no address, and no name will do"):
        created(fixture(), domains=("db.example",), probe=ask(icmp="db.example"))


@pytest.mark.parametrize(
    "address, network, expected",
    [
        ("192.168.77.250", LAN, "192.168.77.250"),
        ("FD00::250", "fd00::/64", "fd00::250"),
        ("", LAN, ""),
        (None, LAN, ""),
    ],
)
def test_g7_a_return_address_is_taken(address: str | None, network: str, expected: str) -> None:
    assert created(fixture(), network=network, return_address=address).route.return_address == expected


@pytest.mark.parametrize(
    "address, fields, reason",
    [
        ("192.168.78.1", {}, "return_address: 192.168.78.1 is outside the route's network 192.168.77.0/24"),
        ("192.168.77.0", {}, "is the address of the network 192.168.77.0/24 itself"),
        ("192.168.77.255", {}, "is the broadcast address of 192.168.77.0/24"),
        ("fd00::1", {}, "return_address: fd00::1 is IPv6, and the route's network 192.168.77.0/24 is not"),
        ("gateway", {}, "return_address: 'gateway' is no address"),
        ("192.168.77.250/24", {}, "is no address"),
        ("192.168.77.250", {"masquerade": True}, "switch masquerade off, or leave return_address out"),
        ("192.168.77.250", {"network": None, "domains": ("db.example",)}, "a route to names has no prefix"),
    ],
)
def test_g7_a_return_address_that_cannot_be_is_refused(address: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Invalid) as problem:
        created(fixture(), **{"network": LAN, "return_address": address, **fields})
    assert reason in problem.value.message


def test_g7_two_ha_sets_have_two_return_addresses() -> None:
    with pytest.raises(Invalid, match=r"192.168.77.250 belongs to route lab \(192.168.0.0/16\).*choose another"):
        created(fixture(OTHER_SET), network=LAN, return_address="192.168.77.250")
    assert created(fixture(OTHER_SET), network=LAN, return_address="192.168.77.251").route.return_address


def test_g7_the_routes_of_an_ha_set_share_one() -> None:
    mate = route("happy", LAN, peer="peer2", return_address="192.168.77.250")
    assert created(fixture(mate), network=LAN, return_address="192.168.77.250").route.return_address


def test_c2_a_put_that_does_not_know_the_fields_leaves_them() -> None:
    changed = updated(fixture(STORED), "happy", network=LAN, metric=5)
    assert (changed.probe, changed.return_address, changed.metric) == (ICMP, "192.168.77.250", 5)


def test_c2_null_ends_them() -> None:
    changed = updated(fixture(STORED), "happy", network=LAN, probe=None, return_address=None)
    assert (changed.probe, changed.return_address) == (None, "")


@pytest.mark.parametrize(
    "fields, left, codes",
    [
        ({"network": "10.0.0.0/24"}, (None, ""), ["probe-removed", "return-address-removed"]),
        ({"network": LAN, "masquerade": True}, (ICMP, ""), ["return-address-removed"]),
        ({"domains": ("db.example",)}, (ICMP, ""), ["return-address-removed"]),
    ],
)
def test_c2_what_does_not_fit_any_more_goes_with_a_warning_where_it_was_left_out(
    fields: dict[str, Any], left: tuple[Probe | None, str], codes: list[str]
) -> None:
    saved = update_route(fixture(STORED), "happy", request(**fields), context()).result
    assert (saved.route.probe, saved.route.return_address) == left
    assert [warning.code for warning in saved.of_request] == codes


def test_c2_what_does_not_fit_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(Invalid, match="outside"):
        updated(fixture(STORED), "happy", network="10.0.0.0/24", probe=ask(icmp="192.168.77.10"))


@pytest.mark.parametrize(
    "fields",
    [
        {"probe": ask(icmp="192.168.77.250"), "return_address": "192.168.77.250"},
        {"probe": ask(tcp="192.168.77.250:80")},
        {"return_address": "192.168.77.10"},
    ],
)
def test_g7_a_return_address_is_no_probe_target(fields: dict[str, Any]) -> None:
    """Nobody holds it before the target answers, and nobody answers before it is held."""
    with pytest.raises(Invalid, match="which answers only where a routing peer carries the route already"):
        updated(fixture(STORED), "happy", network=LAN, **fields)


@pytest.mark.parametrize(
    "mates, fields, expected",
    [
        ([], {"peer_groups": ("ha1",), "return_address": "192.168.77.250"}, []),
        ([], {"peer_groups": ("ha1",)}, ["masquerade-off-in-ha-set"]),
        ([STORED], {"peer": "peer2"}, ["masquerade-off-in-ha-set"]),
        ([STORED], {"peer": "peer2", "return_address": "192.168.77.250"}, []),
        ([STORED], {"peer": "peer2", "return_address": "192.168.77.251"}, ["return-addresses-differ"]),
    ],
)
def test_g7_masquerade_off_in_an_ha_set_is_warned_of_unless_one_return_address_is_there(
    mates: list[Route], fields: dict[str, Any], expected: list[str]
) -> None:
    saved = created(fixture(*mates), network=LAN, access_control_groups=("rg1",), **fields)
    assert [warning.code for warning in saved.warnings] == expected


def test_unset_is_what_a_body_without_the_fields_gives() -> None:
    assert request().probe is msgspec.UNSET
    assert request().return_address is msgspec.UNSET
