"""Where a route leads: prefixes, refused where they must not be routed, and the addresses of its names."""

from collections.abc import Iterable

import msgspec

from services.agent.core.intervals import Network
from services.agent.core.parsed import Resolution, Route, prefix_of
from shared.events.documents import SelfDoc, SettingsDoc
from shared.net.routable import unroutable


class Overlay(msgspec.Struct, frozen=True, kw_only=True):
    """The prefixes of the overlay, and whether this host has an address in the IPv6 one."""

    networks: tuple[Network, ...] = ()
    ipv6: bool = False


class Destinations(msgspec.Struct, frozen=True, kw_only=True):
    """networks: in the order of the route's names and addresses. refused: why the route leads nowhere, "" if it does
    not; a name without addresses is not refused."""

    networks: tuple[Network, ...] = ()
    refused: str = ""


def overlay_of(settings: SettingsDoc | None, self_doc: SelfDoc | None, *, ipv6: bool) -> Overlay:
    """ipv6: whether the host's kernel has IPv6 at all."""
    texts = (settings.overlay_v4, settings.overlay_v6) if settings else ()
    networks = tuple(network for network in map(prefix_of, texts) if network is not None)
    return Overlay(networks=networks, ipv6=ipv6 and self_doc is not None and self_doc.address_v6 != "")


def destinations(route: Route, resolution: Resolution | None, overlay: Overlay) -> Destinations:
    """The prefix of the route, or a host prefix for each address its names have now."""
    if route.domains:
        return Destinations(networks=tuple(_addresses(route, resolution, overlay)))
    network = route.prefix
    if network is None:
        return Destinations(refused=f"{route.network!r} is not a prefix")
    if network.version == 6 and not overlay.ipv6:
        return Destinations(refused=f"{network} needs an IPv6 address in the overlay, and this host has none")
    refused = unroutable(network, overlay.networks)
    return Destinations(refused=refused) if refused else Destinations(networks=(network,))


def covers(pattern: str, name: str) -> bool:
    """Whether a route's domain names `name`; "*.x" is anything below x and not x itself (decision R7)."""
    pattern, name = _plain(pattern), _plain(name)
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _addresses(route: Route, resolution: Resolution | None, overlay: Overlay) -> Iterable[Network]:
    seen = set[Network]()
    for name in resolution.names if resolution else ():
        if not any(covers(domain, name.name) for domain in route.domains):
            continue
        for network in name.networks:
            if network in seen or unroutable(network, overlay.networks):
                continue
            if network.version == 4 or overlay.ipv6:
                seen.add(network)
                yield network


def _plain(name: str) -> str:
    return name.rstrip(".").lower()
