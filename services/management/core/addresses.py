"""Overlay addresses of peers, out of the account's two prefixes."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from services.management.core.state import AccountState
from services.management.errors import Invalid
from shared.net.prefix import Network, network

OVERLAY_V4 = network("100.64.0.0/10")
OVERLAY_V4_LENGTH = 16
OVERLAY_V6 = network("fd00::/8")
OVERLAY_V6_LENGTH = 64
"""An account owns a /16 of the former and a /64 of the latter (reference control-plane §5.5)."""


def check_overlay(prefix_v4: str, prefix_v6: str) -> None:
    """Whether an account may own the prefixes, both in canonical text; raises Invalid."""
    _check_within(prefix_v4, OVERLAY_V4, OVERLAY_V4_LENGTH)
    _check_within(prefix_v6, OVERLAY_V6, OVERLAY_V6_LENGTH)


def free_address(state: AccountState, prefix: str, picks: Sequence[int]) -> str | None:
    """An address of the prefix that no peer has: the first free one of the picks, else the next one after the first.

    picks: random numbers, any size, at least one. None when every address is taken.
    """
    overlay = network(prefix)
    for number in _numbers(_host_count(overlay), picks):
        address = str(overlay[1 + number])
        if not state.address_taken(address):
            return address
    return None


def check_free(state: AccountState, text: str, prefix: str, field: str, *, own: str) -> str:
    """The address in canonical text if the peer whose address is `own` may have it; raises Invalid."""
    overlay = network(prefix)
    address = _parsed(text, field)
    if str(address) == own:
        return own
    if address not in overlay or not 1 <= int(address) - int(overlay.network_address) <= _host_count(overlay):
        raise Invalid(f"{field}: {address} is not a host address of {prefix}")
    if state.address_taken(str(address)):
        raise Invalid(f"{field}: {address} is taken, choose another")
    return str(address)


def _host_count(overlay: Network) -> int:
    """How many addresses hosts may have: all but the network's own and the last one, the broadcast of IPv4."""
    return overlay.num_addresses - 2


def _numbers(count: int, picks: Sequence[int]) -> Iterator[int]:
    yield from (pick % count for pick in picks)
    yield from ((picks[0] + step) % count for step in range(1, count))


def _parsed(text: str, field: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:  # a zone means something on one host only
        raise Invalid(f"{field}: {text[:80]!r} is not an address")
    return address


def _check_within(prefix: str, whole: Network, length: int) -> None:
    overlay = network(prefix)
    if overlay.version != whole.version or overlay.prefixlen != length or not whole.overlaps(overlay):
        raise Invalid(f"{prefix} is not a /{length} of {whole}")
