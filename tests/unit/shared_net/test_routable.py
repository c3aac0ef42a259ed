"""What may be routed: one judgement for hosts, API and resolver."""

from ipaddress import ip_network

import pytest

from shared.net.routable import unroutable

OVERLAY = (ip_network("192.168.100.0/24"), ip_network("fd00:64::/64"))


@pytest.mark.parametrize(
    ("prefix", "allowed"),
    [
        ("192.168.100.0/24", False),
        ("192.168.100.7/32", False),
        ("192.168.100.0/25", False),
        ("192.168.100.255/32", False),
        ("192.168.100.1/32", False),
        ("192.168.0.0/16", True),
        ("192.168.101.0/24", True),
        ("192.167.100.0/24", True),
        ("fd00:64::/80", False),
        ("fd00::/16", True),
    ],
)
def test_a_prefix_that_merely_contains_the_overlay_is_allowed(prefix: str, allowed: bool) -> None:
    assert (unroutable(ip_network(prefix), OVERLAY) == "") is allowed


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("0.0.0.0/8", "part of the unspecified network"),
        ("0.255.255.255/32", "part of the unspecified network"),
        ("::/64", "part of the unspecified network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/3", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("255.255.255.254/32", "reserved"),
        ("255.255.255.254/31", "reserved"),
        ("255.255.255.255/32", "the broadcast address"),
        ("fe80::/64", "link-local"),
        ("ff00::/8", "multicast"),
    ],
)
def test_special_prefixes_are_refused(prefix: str, kind: str) -> None:
    assert unroutable(ip_network(prefix)) == f"{prefix} is {kind}"


@pytest.mark.parametrize(
    "prefix", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "192.0.0.0/2", "1.0.0.0/8", "64:ff9b::/96", "200::/7", "fec0::/10"]
)
def test_whatever_else_a_kernel_routes_is_allowed(prefix: str) -> None:
    assert unroutable(ip_network(prefix), OVERLAY) == ""
