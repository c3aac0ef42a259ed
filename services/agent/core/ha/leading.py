"""Where the routes lead that this host serves, and what to ask its kernel about them."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from operator import itemgetter

import msgspec

from services.agent.core.documents import Documents
from services.agent.core.ha.targets import unusable
from services.agent.core.intervals import Network, of
from services.agent.core.kernel import Family
from services.agent.core.routing.destinations import destinations, overlay_of
from services.agent.core.routing.following import Entrance, address_in
from services.agent.core.routing.hagroups import V4_EXIT, V6_EXIT
from shared.events.documents import Probe

NETWORKS_ASKED = 4
ADDRESSES_ASKED = 8
PUBLIC_V6 = "3000::"
"""In the middle of what is assigned: a default route may lead there alone."""


class Leading(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route leads that this host serves. networks: one, or the addresses of its names. by_name: a domain
    route. fault: why the probe target that it was given is none, "" otherwise."""

    route_id: str
    networks: tuple[Network, ...]
    by_name: bool
    probe: Probe | None = None
    fault: str = ""

    @property
    def network(self) -> str:
        """The one network, "" for a domain route, or one that leads nowhere."""
        return "" if self.by_name or not self.networks else str(self.networks[0])


def leading(documents: Documents, served: Iterable[str], *, ipv6: bool) -> tuple[Leading, ...]:
    """Where the served routes lead. ipv6: whether the kernel has it."""
    overlay = overlay_of(documents.settings, documents.self_doc, ipv6=ipv6)
    found = []
    for route_id in sorted(served):
        if route := documents.routes.get(route_id):
            networks = destinations(route, documents.resolutions.get(route_id), overlay).networks
            probe = route.probe if networks else None
            fault = unusable(probe, networks, overlay.networks) if probe else ""
            found.append(
                Leading(
                    route_id=route_id,
                    networks=networks,
                    by_name=bool(route.domains),
                    probe=None if fault else probe,
                    fault=fault,
                )
            )
    return tuple(found)


def entrance(documents: Documents, interface: str) -> Entrance:
    """How packets of the overlay come to this host: from some address of it that is not this host's own."""
    me, settings, sources = documents.self_doc, documents.settings, dict[Family, str]()
    if me is not None and settings is not None:
        for network in overlay_of(settings, me, ipv6=True).networks:
            own = me.address_v4 if network.version == 4 else me.address_v6
            middle = address_in(str(network))
            if own:
                family: Family = "v4" if network.version == 4 else "v6"
                sources[family] = str(ip_address(middle) + 1) if middle == own else middle
    return Entrance(device=interface, sources=sources)


def questions(routes: Iterable[Leading], legs: Iterable[Network]) -> dict[str, tuple[str, ...]]:
    """Route id → addresses to ask the kernel about; one that it carries is enough.

    Of a network that is its probe target, else its middle, and the host's own networks in it: legs. Of names their
    addresses. Never more than a few.
    """
    own = {version: sorted(_spans(legs, version)) for version in (4, 6)}
    return {one.route_id: tuple(dict.fromkeys(_asked(one, own))) for one in routes}


def _asked(one: Leading, own: Mapping[int, list[tuple[int, int, Network]]]) -> Iterator[str]:
    if one.by_name:
        yield from (str(network.network_address) for network in one.networks[:ADDRESSES_ASKED])
        return
    for network in one.networks:
        if one.probe is not None:
            yield one.probe.address
        else:
            yield PUBLIC_V6 if str(network) == V6_EXIT else address_in(str(network))
        if str(network) not in (V4_EXIT, V6_EXIT):
            yield from (address_in(str(leg)) for leg in _inside(network, own[network.version]))


def _inside(network: Network, own: list[tuple[int, int, Network]]) -> Iterator[Network]:
    span = of(network)
    at = bisect_left(own, span.first, key=itemgetter(0))
    for first, last, leg in own[at : at + NETWORKS_ASKED]:
        if first > span.last:
            return
        if last <= span.last and leg != network:
            yield leg


def _spans(legs: Iterable[Network], version: int) -> Iterator[tuple[int, int, Network]]:
    for leg in legs:
        if leg.version == version:
            span = of(leg)
            yield span.first, span.last, leg
