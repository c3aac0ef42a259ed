"""One question to one server: by UDP from a port of its own, by TCP where the answer is cut off."""

import asyncio
import struct
from typing import Any

import dns.message

from services.agent.core.dns.messages import answer_to, is_cut
from shared.events.documents import DnsServer

AGAIN_AFTER_S = (1.0, 2.5)
"""Seconds after the first datagram at which it is sent again: one that is lost costs a second, and no answer."""


class Exchange:
    """Sockets to servers; each question has one of its own, so that its port is as hard to guess as its id."""

    async def ask(
        self, server: DnsServer, sent: dns.message.Message, *, tcp: bool = False
    ) -> dns.message.Message | None:
        """Their answer, None when they cannot be reached or hang up. It waits for ever: whoever asks ends it."""
        wire = sent.to_wire()
        try:
            if not tcp:
                answer = await _by_udp(server, sent, wire)
                if not is_cut(answer):
                    return answer_to(sent, answer)
            return answer_to(sent, await _by_tcp(server, wire))
        except (OSError, asyncio.IncompleteReadError):
            return None


class _Waiting(asyncio.DatagramProtocol):
    """Takes the first datagram that answers what was sent, and no other."""

    def __init__(self, sent: dns.message.Message) -> None:
        self._sent = sent
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        is_ours = data[:2] == self._sent.id.to_bytes(2) if is_cut(data) else answer_to(self._sent, data) is not None
        if is_ours and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _by_udp(server: DnsServer, sent: dns.message.Message, wire: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Waiting(sent), remote_addr=(server.address, server.port)
    )
    again = [loop.call_later(after_s, transport.sendto, wire) for after_s in AGAIN_AFTER_S]
    try:
        transport.sendto(wire)
        return await protocol.answer
    finally:
        for timer in again:
            timer.cancel()
        transport.close()


async def _by_tcp(server: DnsServer, wire: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        writer.write(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
