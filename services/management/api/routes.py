"""Routes: networks and names behind routing peers."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.routestatus import RouteStatus, status_of
from services.management.api.wire import Id, Nothing, WarningResponse, example, shown_warnings
from services.management.core import warnings
from services.management.core.commands import routes as commands
from services.management.core.commands.checks import found
from services.management.core.commands.lan import shown_target
from services.management.core.model.route import DOMAIN_PLACEHOLDER, NetworkType, Route
from shared.events.documents import Probe
from shared.net.domains import to_unicode


class ProbeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """icmp or tcp: the target."""

    icmp: str | msgspec.UnsetType = msgspec.UNSET
    tcp: str | msgspec.UnsetType = msgspec.UNSET
    interval_ms: int


class RouteResponse(msgspec.Struct, frozen=True, kw_only=True):
    """network: 192.0.2.0/32 stands for the names of a domain route. peer_groups and access_control_groups: absent
    if empty, probe and return_address if there is none. warnings: only where one route is answered, not in lists;
    status: only where it is asked for.
    """

    id: Id
    network_type: NetworkType
    network_id: str
    description: str
    network: str
    domains: list[str] | None
    peer: str
    peer_groups: list[str] | msgspec.UnsetType = msgspec.UNSET
    metric: int
    masquerade: bool
    enabled: bool
    groups: list[str]
    access_control_groups: list[str] | msgspec.UnsetType = msgspec.UNSET
    keep_route: bool
    skip_auto_apply: bool
    probe: ProbeResponse | msgspec.UnsetType = msgspec.UNSET
    return_address: str | msgspec.UnsetType = msgspec.UNSET
    warnings: list[WarningResponse] | msgspec.UnsetType = msgspec.UNSET
    status: RouteStatus | msgspec.UnsetType = msgspec.UNSET


ROUTE = example(
    {
        "network_id": "office",
        "description": "the LAN behind the gateway",
        "network": "10.0.0.0/24",
        "peer": "d0fsqhs3r4mc73a1b2c0",
        "metric": 9999,
        "masquerade": True,
        "enabled": True,
        "groups": ["d0fsqhs3r4mc73a1b2d0"],
        "access_control_groups": [],
        "keep_route": False,
    }
)


@get("/")
async def list_routes(call: NamedDependency[Call]) -> Response[list[RouteResponse]]:
    """Every route of the account."""
    return call.answer([_shown(route) for route in by_id(call.state.routes)])


@get("/{id:str}")
async def get_route(call: NamedDependency[Call], id: FromPath[str]) -> Response[RouteResponse]:
    """One route, with who serves it."""
    route = found(call.state.routes, id, "route")
    return _answer(call, route, warnings.of_route(call.state, route), status_of(call, route))


@post("/", status_code=200)
async def create_route(
    call: NamedDependency[Call], data: Annotated[commands.RouteRequest, ROUTE]
) -> Response[RouteResponse]:
    """Create a route."""
    saved = await call.commit(lambda state, context: commands.create_route(state, data, context))
    return _saved(call, saved)


@put("/{id:str}", guards=[known(lambda state: state.routes, "route")])
async def update_route(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.RouteRequest, ROUTE]
) -> Response[RouteResponse]:
    """Replace a route."""
    saved = await call.commit(lambda state, context: commands.update_route(state, id, data, context))
    return _saved(call, saved)


@delete("/{id:str}", status_code=200)
async def delete_route(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a route."""
    await call.commit(lambda state, context: commands.delete_route(state, id, context))
    return call.answer(Nothing())


def _saved(call: Call, saved: commands.SavedRoute) -> Response[RouteResponse]:
    """The route as it is now, which may be later than the caller's own change; the ETag says so."""
    current = call.state.routes.get(saved.route.id)
    of_route = warnings.of_route(call.state, current) if current else saved.warnings
    return _answer(call, current or saved.route, (*saved.of_request, *of_route))


def _answer(
    call: Call,
    route: Route,
    told: Iterable[warnings.Warned],
    status: RouteStatus | msgspec.UnsetType = msgspec.UNSET,
) -> Response[RouteResponse]:
    return call.answer(msgspec.structs.replace(_shown(route), warnings=shown_warnings(told), status=status))


def _shown(route: Route) -> RouteResponse:
    return RouteResponse(
        id=route.id,
        network_type=route.network_type,
        network_id=route.network_id,
        description=route.description,
        network=route.network or DOMAIN_PLACEHOLDER,
        domains=[to_unicode(domain) for domain in route.domains] or None,
        peer=route.peer,
        peer_groups=list(route.peer_groups) or msgspec.UNSET,
        metric=route.metric,
        masquerade=route.masquerade,
        enabled=route.enabled,
        groups=list(route.groups),
        access_control_groups=list(route.access_control_groups) or msgspec.UNSET,
        keep_route=route.keep_route,
        skip_auto_apply=route.skip_auto_apply,
        probe=_shown_probe(route.probe) if route.probe else msgspec.UNSET,
        return_address=route.return_address or msgspec.UNSET,
    )


def _shown_probe(probe: Probe) -> ProbeResponse:
    target = shown_target(probe)
    if probe.kind == "icmp":
        return ProbeResponse(icmp=target, interval_ms=probe.interval_ms)
    return ProbeResponse(tcp=target, interval_ms=probe.interval_ms)


router = resource("routes", list_routes, get_route, create_route, update_route, delete_route)
