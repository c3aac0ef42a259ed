"""The REST API on a port, in this process's event loop."""

import asyncio

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar.types import ASGIApp

from shared.net.listen import Listen

MOST_BEHIND = 128
"""Requests at work at once; more wait."""


async def serve(app: ASGIApp, listen: Listen) -> None:
    """Answer requests until cancelled; then take no more, and finish those at work."""
    server = Server(
        app,
        address=listen.host,
        port=listen.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=MOST_BEHIND,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving
