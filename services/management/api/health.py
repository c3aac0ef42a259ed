"""What machines ask: does it serve, and how much. Neither needs a token; keep them off the internet."""

import time
from http import HTTPStatus
from typing import Literal

import msgspec
from litestar import MediaType, Response, get, head
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.openapi import ResponseSpec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.management.api.deps import Deps
from shared.metrics import REGISTRY, Histogram, exposition

REQUESTS = Histogram(
    "whimbrel_api_request_seconds",
    "Time from a request's arrival to the start of its answer",
    ["method", "path", "status"],
    registry=REGISTRY,
)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """status: "read-only" when no change is taken, "unavailable" when nothing is answered.

    revision: LOG sequence this replica holds. troubles: why it is not "ok", one line each.
    """

    status: Literal["ok", "read-only", "unavailable"]
    revision: int
    troubles: list[str]


NOT_WELL = ResponseSpec(Health, generate_examples=False, description="it does not, troubles says why")
DESCRIBED: dict[int, ResponseSpec] = {HTTPStatus.SERVICE_UNAVAILABLE: NOT_WELL}


@get("/healthz", tags=["Operation"], security=[{}], responses=DESCRIBED)
async def healthz(state: State) -> Response[Health]:
    """For monitoring: 200 while this replica serves and takes changes, 503 with the reasons otherwise."""
    deps: Deps = state.deps
    return Response(_health(deps), status_code=_status(not deps.troubles.lines))


@head("/healthz", include_in_schema=False)
async def healthz_status(state: State) -> Response[None]:
    """The status alone: several probes ask with HEAD unless told otherwise."""
    deps: Deps = state.deps
    return Response(None, status_code=_status(not deps.troubles.lines))


@get("/readyz", tags=["Operation"], security=[{}], responses=DESCRIBED)
async def readyz(state: State) -> Response[Health]:
    """For balancers: 200 while reads are answered here as well as anywhere, 503 with the reasons otherwise."""
    deps: Deps = state.deps
    return Response(_health(deps), status_code=_status(deps.troubles.ready))


@head("/readyz", include_in_schema=False)
async def readyz_status(state: State) -> Response[None]:
    """The status alone."""
    deps: Deps = state.deps
    return Response(None, status_code=_status(deps.troubles.ready))


def _health(deps: Deps) -> Health:
    lines = list(deps.troubles.lines)
    status: Literal["ok", "read-only", "unavailable"] = "ok"
    if lines:
        status = "read-only" if deps.troubles.serves else "unavailable"
    return Health(status=status, revision=deps.intent.sequence, troubles=lines)


def _status(fine: bool) -> HTTPStatus:
    return HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE


@get("/metrics", tags=["Operation"], media_type=MediaType.TEXT, security=[{}])
async def metrics() -> Response[bytes]:
    """The process's metrics in Prometheus' text format."""
    return Response(exposition(), media_type="text/plain; version=0.0.4")


class Timing(ASGIMiddleware):
    """Counts and times every request under its path template, so that ids make no new series."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        begin = time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope.get("path_template", "")
                REQUESTS.labels(scope["method"], path, message["status"]).observe(time.perf_counter() - begin)  # type: ignore[typeddict-item]
            await send(message)

        await next_app(scope, receive, timed)
