"""Port 53 of one address, UDP and TCP: questions of this host in, answers out."""

import asyncio
import struct
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeAlias

from services.agent.core.dns import messages
from services.agent.core.dns.learned import Address
from services.agent.core.dns.messages import Question

PORT = 53
AT_ONCE = 1024
"""Questions that are being answered; further ones are dropped, and their senders ask again."""

CONNECTIONS = 128
IDLE_S = 10.0

Answering: TypeAlias = Callable[[Question, bool], Coroutine[Any, Any, bytes]]
"""Question, and whether it came by TCP → the answer, as long as that way takes."""


class Listener:
    """may_ask: whether a sender is answered; others hear nothing."""

    def __init__(self, address: str, may_ask: Callable[[Address], bool], answering: Answering) -> None:
        self.address = address
        self._is_asker = may_ask
        self._answering = answering
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    async def open(self, port: int = PORT) -> None:
        """Raises OSError, and then nothing is open."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.address, port)
        )
        try:
            self._server = await asyncio.start_server(self._serve, self.address, port)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Answers that are on their way are not given any more."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()

    def heard(self, wire: bytes, sender: Any, transport: asyncio.DatagramTransport) -> None:
        """A datagram came."""
        if not self._may_ask(sender[0]) or len(self._tasks) >= AT_ONCE:
            return
        asked = messages.question(wire)
        if isinstance(asked, Question):
            self._start(self._reply(asked, sender, transport))
        elif asked is not None:
            transport.sendto(asked, sender)

    async def _reply(self, asked: Question, sender: Any, transport: asyncio.DatagramTransport) -> None:
        answer = await self._answering(asked, False)
        if not transport.is_closing():
            transport.sendto(answer, sender)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Questions of one connection, one after the other (RFC 7766 lets who asks wait for none of them)."""
        if not self._may_ask(writer.get_extra_info("peername")[0]) or self._connections >= CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            while (answer := await self._next(reader)) is not None:
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _next(self, reader: asyncio.StreamReader) -> bytes | None:
        async with asyncio.timeout(IDLE_S):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            asked = messages.question(await reader.readexactly(length))
        return await self._answering(asked, True) if isinstance(asked, Question) else asked

    def _may_ask(self, address: str) -> bool:
        return self._is_asker(ip_address(address.partition("%")[0]))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._listener.heard(data, addr, self._transport)
