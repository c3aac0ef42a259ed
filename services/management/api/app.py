"""The REST API as an ASGI application."""

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide

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


async def _call(request: StrictRequest) -> Call:
    return Call(request)


def create_app(deps: Deps) -> Litestar:
    """The API over `deps`; it starts nothing and holds no state of its own."""

    api = Router(
        "/api",
        route_handlers=RESOURCES,
        middleware=[Authentication],
        dependencies={"call": Provide(_call)},
        request_class=StrictRequest,
    )
    return Litestar(
        route_handlers=[api, docs.document, docs.browser_assets(), health.healthz, health.metrics],
        middleware=[health.Timing()],
        exception_handlers=problem.HANDLERS,
        openapi_config=docs.openapi(),
        request_max_body_size=MAX_BODY_BYTES,
        state=State({"deps": deps}, deep_copy=False),  # the one intent, not a copy of what it is now
        logging_config=None,
    )
