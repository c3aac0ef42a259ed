"""The REST API as an ASGI application."""

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from services.management.api import (
    accounts,
    docs,
    events,
    groups,
    health,
    peers,
    policies,
    problem,
    routes,
    setup_keys,
    users,
)
from services.management.api.call import Authentication, Call, StrictRequest
from services.management.api.deps import Deps

MAX_BODY_BYTES = 1024 * 1024

RESOURCES = (
    routes.router,
    groups.router,
    policies.router,
    peers.router,
    setup_keys.router,
    events.router,
    users.router,
    accounts.router,
)


def create_app(deps: Deps) -> Litestar:
    """The API over `deps`; it starts nothing and holds no state of its own."""

    async def call(request: StrictRequest) -> Call:
        return Call(request, deps)

    api = Router(
        "/api",
        route_handlers=RESOURCES,
        middleware=[DefineMiddleware(Authentication, deps=deps)],
        dependencies={"call": Provide(call)},
        request_class=StrictRequest,
    )
    return Litestar(
        route_handlers=[api, docs.document, docs.browser_assets(), health.healthz, health.metrics],
        middleware=[health.Timing()],
        exception_handlers=problem.HANDLERS,
        openapi_config=docs.openapi(),
        request_max_body_size=MAX_BODY_BYTES,
        state=State({"deps": deps}),
        logging_config=None,
    )
