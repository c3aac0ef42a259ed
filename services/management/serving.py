"""The REST API on a port, in this process's event loop."""

import asyncio

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar.types import ASGIApp

from shared.net.listen import Listen

MOST_CONNECTIONS = 4096
"""Open at once, idle ones too; who comes after that waits. Anybody may open some: few enough for the process's files
(shared/process.py), and too many to be taken up unnoticed."""

REQUEST_WITHIN_S = 10
"""A connection that has not sent the head of a request after so long is closed, also one between two requests."""


async def serve(app: ASGIApp, listen: Listen) -> None:
    """Answer requests until cancelled; then take no more, and finish those at work."""
    server = Server(
        app,
        address=listen.host,
        port=listen.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backpressure=MOST_CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=REQUEST_WITHIN_S * 1000),
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await serving
