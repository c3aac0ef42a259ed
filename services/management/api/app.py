"""The REST API as an ASGI application."""

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from services.management.api import (
    accounts,
    dns,
    docs,
    events,
    groups,
    health,
    nameservers,
    peers,
    policies,
    problem,
    routes,
    setup_keys,
    users,
    zones,
)
from services.management.api.call import Authentication, Call, StrictRequest
from services.management.api.deps import Deps
from services.management.api.kept import Kept

MAX_BODY_BYTES = 1024 * 1024

ANY_ORIGIN = CORSConfig(expose_headers=["ETag"])
"""A dashboard may be served from elsewhere, as with NetBird. Nothing rests on what a browser sends by itself (cookies):
who has no token gets nothing from another origin either."""

RESOURCES = (
    routes.router,
    groups.router,
    policies.router,
    peers.router,
    nameservers.router,
    dns.router,
    zones.router,
    setup_keys.router,
    events.router,
    users.router,
    accounts.router,
)


async def _call(request: StrictRequest) -> Call:
    return Call(request)


def create_app(deps: Deps) -> Litestar:
    """The API over `deps`; it starts nothing, and keeps what it could make again."""

    api = Router(
        "/api",
        route_handlers=RESOURCES,
        middleware=[DefineMiddleware(Authentication, exclude_http_methods=())],  # OPTIONS asks for a token as well
        dependencies={"call": Provide(_call)},
        request_class=StrictRequest,
    )
    return Litestar(
        route_handlers=[
            api,
            docs.document,
            docs.browser_assets(),
            health.healthz,
            health.healthz_status,
            health.readyz,
            health.readyz_status,
            health.metrics,
        ],
        middleware=[health.Timing()],
        exception_handlers=problem.HANDLERS,
        cors_config=ANY_ORIGIN,
        openapi_config=docs.openapi(),
        request_max_body_size=MAX_BODY_BYTES,
        state=State({"deps": deps, "kept": Kept()}, deep_copy=False),  # the one intent, not a copy of what it is now
        logging_config=None,
    )
