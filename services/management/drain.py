"""An answer may come before its request was read to the end: who asked keeps the connection, or is told that it ends.

The HTTP server closes a connection whose request it did not read, without a word: a client that keeps it open finds out
with its next request, and what it still sends can cost it the answer (RFC 9112 §9.6).
"""

import asyncio
from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

MOST_BYTES = 8 * 1024 * 1024
"""Read, and thrown away, before the connection is ended: a body that is too large for the API still gets its answer."""

WITHIN_S = 5.0
"""How long the rest of a body is waited for; as slow as that, the connection is worth less than the wait."""

_CLOSE = (b"connection", b"close")


def drained(app: ASGIApp) -> ASGIApp:
    """The application; each of its answers waits for the rest of the request, or announces the connection's end."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not _has_body(scope["headers"]):
            await app(scope, receive, send)
            return
        body = _Body(receive, waits=_waits(scope["headers"]))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not await body.drain():
                message["headers"] = [*message["headers"], _CLOSE]
            await send(message)

        await app(scope, body.receive, sending)

    return answering


class _Body:
    """The body of one request. waits: the client sends none of it before it is asked for."""

    def __init__(self, receive: Receive, *, waits: bool) -> None:
        self._receive = receive
        self._unasked = waits
        self._more = True

    async def receive(self) -> HTTPReceiveMessage:
        self._unasked = False
        message = await self._receive()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message  # type: ignore[return-value]

    async def drain(self) -> bool:
        """Read what is left; whether it ended. A client that waits is not asked for what nobody wants."""
        if self._unasked:
            return False
        size = 0
        try:
            async with asyncio.timeout(WITHIN_S):
                while self._more and size <= MOST_BYTES:
                    message = await self.receive()
                    size += len(message["body"]) if message["type"] == "http.request" else 0
        except TimeoutError:
            return False
        return not self._more


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers)


def _waits(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" for name, _ in headers)
