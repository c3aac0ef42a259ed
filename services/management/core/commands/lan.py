"""What a route asks of its routing peers in the LAN behind them: a target to probe (G3), an address for replies (G7).

NetBird's clients do not know these fields and send them back with no PUT: what is absent stays as it is, and null takes
it away. What stayed and does not fit the route any more goes, so that no change of theirs is refused for it.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, TypeVar

import msgspec
from msgspec.structs import replace

from services.management.core.commands.request import Integer, about
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from services.management.core.warnings import Warned
from services.management.errors import Invalid
from shared.events.documents import Probe
from shared.net.prefix import Network, network

MIN_INTERVAL_MS, MAX_INTERVAL_MS = 100, 60_000
DEFAULT_INTERVAL_MS = 200

T = TypeVar("T")

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")


class ProbeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the routing peers ask on their own leg; one that gets no answer withdraws from the route."""

    icmp: Annotated[str | None, about("Address that answers an echo request.", "192.168.77.10")] = None
    tcp: Annotated[str | None, about("Address and port that take a connection.", "192.168.77.10:8080")] = None
    interval_ms: Annotated[Integer | None, about("100 to 60000 between two questions.", 200)] = None


def equipped(
    state: AccountState,
    route: Route,
    old: Route | None,
    probe: ProbeRequest | msgspec.UnsetType | None,
    return_address: str | msgspec.UnsetType | None,
) -> tuple[Route, tuple[Warned, ...]]:
    """The route with what is asked for, or with what `old` had where nothing is, and warnings of what had to go.

    Raises Invalid.
    """
    gone: list[Warned] = []

    def kept(what: str, value: T, nothing: T, check: Callable[[T], None]) -> T:
        try:
            if value:
                check(value)
        except Invalid as problem:
            gone.append(Warned(code=f"{what.replace('_', '-')}-removed", message=f"removed {problem.message}"))
            return nothing
        return value

    if isinstance(probe, msgspec.UnsetType):
        wanted = kept("probe", old.probe if old else None, None, lambda known: _check_probe(known, route))
    else:
        wanted = _probe(probe, route) if probe else None
    if isinstance(return_address, msgspec.UnsetType):
        address = kept(
            "return_address",
            old.return_address if old else "",
            "",
            lambda known: _check_return_address(state, ip_address(known), route),
        )
    else:
        address = _return_address(state, return_address, route) if return_address else ""
    if wanted and wanted.address == address and (probe, return_address) != (msgspec.UNSET, msgspec.UNSET):
        raise Invalid(
            f"probe: {address} is the return address, which answers only where a routing peer carries the route "
            "already: probe another host of the LAN"
        )
    return replace(route, probe=wanted, return_address=address), tuple(gone)


def shown_target(probe: Probe) -> str:
    """The target as it is asked for."""
    if probe.kind == "icmp":
        return probe.address
    host = f"[{probe.address}]" if ":" in probe.address else probe.address
    return f"{host}:{probe.port}"


def _probe(asked: ProbeRequest, route: Route) -> Probe:
    if (asked.icmp is None) == (asked.tcp is None):
        raise Invalid("probe: give either icmp or tcp")
    interval = DEFAULT_INTERVAL_MS if asked.interval_ms is None else asked.interval_ms
    if not MIN_INTERVAL_MS <= interval <= MAX_INTERVAL_MS:
        raise Invalid(
            f"probe: interval_ms must be between {MIN_INTERVAL_MS} and {MAX_INTERVAL_MS}, it is {asked.interval_ms}"
        )
    if asked.icmp is not None:
        probe = Probe(kind="icmp", address=str(_address("probe", asked.icmp)), interval_ms=interval)
    else:
        host, port = _host_and_port(asked.tcp or "")
        probe = Probe(kind="tcp", address=str(_address("probe", host)), port=port, interval_ms=interval)
    _check_probe(probe, route)
    return probe


def _check_probe(probe: Probe | None, route: Route) -> None:
    """A route to names leads to no prefix; any address may be asked there."""
    assert probe is not None
    _check_host("probe", ip_address(probe.address), network(route.network) if route.network else None)


def _host_and_port(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise Invalid(
            f"probe: {target[:80]!r} has no port: write address:port, as in 192.168.77.10:8080 or [fd00::1]:443"
        )
    if not _PORT.match(port) or int(port) > 65_535:
        raise Invalid(f"probe: the port must be between 1 and 65535, it is {port[:80]!r}")
    return (host[1:-1] if bracketed else host), int(port)


def _return_address(state: AccountState, text: str, route: Route) -> str:
    address = _address("return_address", text)
    _check_return_address(state, address, route)
    return str(address)


def _check_return_address(state: AccountState, address: IPv4Address | IPv6Address, route: Route) -> None:
    if route.masquerade:
        raise Invalid(
            f"return_address: {address} has no meaning with masquerade, which brings replies back by itself: "
            "switch masquerade off, or leave return_address out"
        )
    if not route.network:
        raise Invalid(f"return_address: a route to names has no prefix that {address} could be in, leave it out")
    _check_host("return_address", address, network(route.network))
    for other in state.route_index.returning_to(str(address)):
        if other.id != route.id and not route.same_ha_set(other):
            raise Invalid(
                f"return_address: {address} belongs to route {other.network_id} ({other.network}), which is of another "
                "HA set: choose another address"
            )


def _address(field: str, text: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        raise Invalid(f"{field}: {text[:80]!r} is no address, and no name will do: write it as 192.168.77.10")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise Invalid(f"{field}: write {text} as {address.ipv4_mapped}")
    return address


def _check_host(field: str, address: IPv4Address | IPv6Address, inside: Network | None) -> None:
    """Whether it can be a host's address, of the prefix if there is one. Raises Invalid."""
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise Invalid(f"{field}: {address} is no host's address")
    if inside is None:
        return
    if address.version != inside.version:
        raise Invalid(f"{field}: {address} is IPv{address.version}, and the route's network {inside} is not")
    if address not in inside:
        raise Invalid(f"{field}: {address} is outside the route's network {inside}")
    if inside.num_addresses > 2 and address == inside.network_address:
        raise Invalid(f"{field}: {address} is the address of the network {inside} itself, no host's")
    if inside.version == 4 and inside.num_addresses > 2 and address == inside.broadcast_address:
        raise Invalid(f"{field}: {address} is the broadcast address of {inside}, no host's")
