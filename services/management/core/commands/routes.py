"""Create, change and delete network routes. The order of the checks is NetBird's (reference control-plane §2)."""

from typing import Annotated

import msgspec

from services.management.core import warnings
from services.management.core.commands.checks import distribution_groups, existing_groups, existing_peers, found, unique
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.lan import ProbeRequest, equipped
from services.management.core.commands.request import Integer, Request, about
from services.management.core.commands.routing_peers import check_routing_peers
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.route import (
    DOMAIN_PLACEHOLDER,
    NetworkType,
    Route,
    check_metric,
    check_network_id,
    domains_of,
    network_of,
)
from services.management.core.state import AccountState
from services.management.errors import Invalid
from shared.net.domains import is_wildcard, to_unicode


class RouteRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/routes, which replaces the whole route.

    Exactly one of network and domains, and exactly one of peer and peer_groups, must be there: absent or null is not
    the same as empty.
    """

    network_id: Annotated[
        str, about("Name of the network, 1 to 40 characters. Equal ones make an HA set.", "office", needed=True)
    ] = ""
    description: str = ""
    network: Annotated[str | None, about("Prefix in CIDR notation. Host bits are masked off.", "10.0.0.0/24")] = None
    domains: Annotated[
        tuple[str, ...] | None, about("1 to 32 names, `*.` as the leftmost label is a wildcard.", ["wiki.example.com"])
    ] = None
    peer: Annotated[
        str | None, about('Id of the routing peer. "" makes a route that nobody serves.', "d0fsqhs3r4mc73a1b2c0")
    ] = None
    peer_groups: Annotated[tuple[str, ...] | None, about("Groups whose members all serve the route.")] = None
    metric: Annotated[Integer, about("1 to 9999, lower is preferred.", 9999, needed=True)] = 0
    masquerade: Annotated[bool, about("Hide clients behind the routing peer's address.", True)] = False
    enabled: Annotated[bool, about("A route that is not enabled reaches nobody.", True)] = False
    groups: Annotated[
        tuple[str, ...] | None,
        about("Groups that get the route, at least one.", ["d0fsqhs3r4mc73a1b2c0"], needed=True),
    ] = None
    access_control_groups: Annotated[
        tuple[str, ...] | None, about("Groups that policies name as destination to permit traffic.")
    ] = None
    keep_route: Annotated[
        bool, about("Names: keep addresses that they no longer have. Prefix: stay without a routing peer.", False)
    ] = False
    skip_auto_apply: Annotated[bool | None, about("Clients choose this exit route by hand.", False)] = None
    probe: Annotated[
        ProbeRequest | msgspec.UnsetType | None,
        about(
            "What routing peers ask in the LAN to know that they reach it. A PUT without it leaves it, null ends it."
        ),
    ] = msgspec.UNSET
    return_address: Annotated[
        str | msgspec.UnsetType | None,
        about(
            "Free address of the LAN that the routing peer in charge takes over, for replies without masquerade. "
            "A PUT without it leaves it, null ends it.",
            "192.168.77.250",
        ),
    ] = msgspec.UNSET


class SavedRoute(msgspec.Struct, frozen=True):
    """of_request: warnings of how it was asked for, which the route does not show. warnings: of the route itself."""

    route: Route
    of_request: tuple[warnings.Warned, ...]
    warnings: tuple[warnings.Warned, ...]


def create_route(state: AccountState, request: RouteRequest, context: Context) -> Decision[SavedRoute]:
    """Raises Invalid, Unsuitable or AlreadyThere."""
    route, told = _route(state, context.new_id(), request, None)
    check_routing_peers(state, route)
    return _saved(state, None, route, told, context)


def update_route(state: AccountState, id: str, request: RouteRequest, context: Context) -> Decision[SavedRoute]:
    """The route becomes what the request says, as a whole but for what it may leave out (lan.py).

    Raises Unknown, Invalid, Unsuitable or AlreadyThere.
    """
    old = found(state.routes, id, "route")
    route, told = _route(state, id, request, old)
    if not old.served_alike(route):  # who came in by enrolling must not keep a route from being switched off
        check_routing_peers(state, route)
    return _saved(state, old, route, told, context)


def delete_route(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Raises Unknown."""
    route = found(state.routes, id, "route")
    activity = Activity(code="route.delete", target_id=id, meta=_meta(route))
    return changed(context, state.account.id, None, [activity], deletes=[ref(route)])


def _saved(
    state: AccountState, old: Route | None, route: Route, told: tuple[warnings.Warned, ...], context: Context
) -> Decision[SavedRoute]:
    saved = SavedRoute(route, told, warnings.of_route(state, route))
    if route == old:
        return unchanged(saved)
    activity = Activity(code="route.update" if old else "route.add", target_id=route.id, meta=_meta(route))
    return changed(context, state.account.id, saved, [activity], upserts=[route])


def _route(
    state: AccountState, id: str, request: RouteRequest, old: Route | None
) -> tuple[Route, tuple[warnings.Warned, ...]]:
    """The route that is asked for, and warnings of how it is."""
    _check_presence(request)
    check_network_id(request.network_id)
    network, domains, network_type = _destination(state, request)
    check_metric(request.metric)
    route = Route(
        id=id,
        network_id=request.network_id,
        description=request.description,
        network=network,
        domains=domains,
        network_type=network_type,
        peer=request.peer or "",
        peer_groups=unique(request.peer_groups),
        metric=request.metric,
        masquerade=request.masquerade,
        enabled=request.enabled,
        groups=unique(request.groups),
        access_control_groups=unique(request.access_control_groups),
        keep_route=request.keep_route,
        skip_auto_apply=bool(request.skip_auto_apply),
    )
    _check_references(state, route)
    route, gone = equipped(state, route, old, request.probe, request.return_address)
    return route, (*warnings.of_request(request.network or "", route), *gone)


def _check_presence(request: RouteRequest) -> None:
    if request.network is not None and request.domains is not None:
        raise Invalid("give either network or domains, not both")
    if request.network is None and request.domains is None:
        raise Invalid("give either network or domains")
    if request.peer is None and request.peer_groups is None:
        raise Invalid("give either peer or peer_groups")
    if request.peer is not None and request.peer_groups is not None:
        raise Invalid("give either peer or peer_groups, not both")


def _destination(state: AccountState, request: RouteRequest) -> tuple[str, tuple[str, ...], NetworkType]:
    if request.domains is None:
        network, family = network_of(request.network or "")
        return network, (), family
    domains = domains_of(request.domains)
    wildcards = [domain for domain in domains if is_wildcard(domain)]
    if wildcards and not state.account.settings.routing_peer_dns_resolution_enabled:  # decision R7
        raise Invalid(f"domains: {wildcards[0]} needs the account's routing peer dns resolution, which is switched off")
    return "", domains, "Domain"


def _check_references(state: AccountState, route: Route) -> None:
    existing_groups(state, route.peer_groups, "peer_groups")
    existing_groups(state, route.access_control_groups, "access_control_groups")
    distribution_groups(state, route.groups, "groups")
    if route.peer:
        existing_peers(state, [route.peer], "peer")


def _meta(route: Route) -> dict[str, str | int | bool | list[str]]:
    return {
        "name": route.network_id,
        "network_range": route.network or DOMAIN_PLACEHOLDER,
        "domains": ", ".join(map(to_unicode, route.domains)),
        "peer_id": route.peer,
        "peer_groups": list(route.peer_groups),
    }
