"""A DNS server on loopback that answers what the test puts in its zone."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from shared.bus.embedded.certificate import Certificate

SILENCE = "silence"
SERVFAIL = "servfail"
GARBAGE = "garbage"


class DnsServer(asyncio.DatagramProtocol):
    """zone: name → lines like "A 192.0.2.1" or "CNAME other.example"; or SILENCE, SERVFAIL, GARBAGE.

    Names that are not in the zone do not exist. asked: how often each name was asked for, by question.
    """

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.address = ""
        self._transport: asyncio.DatagramTransport
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int = 0, *, tcp: bool = False) -> None:
        """port: 0 for a free one. tcp: answer there as well, and cut off by UDP what is longer than 1232 bytes."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        port = transport.get_extra_info("sockname")[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if tcp:
            self._server = await asyncio.start_server(self._serve, host, port)

    def stop(self) -> None:
        self._transport.close()
        if self._server is not None:
            self._server.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        answer = self.answer(data, 1232 if self._server is not None else 65535)
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        answer = self.answer(data)
        if answer is not None:
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()
        writer.close()

    def answer(self, data: bytes, limit: int = 65535) -> bytes | None:
        """What it says to a query, None for nothing. limit: bytes."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        held = self.zone.get(name)
        if held == SILENCE:
            return None
        if held == GARBAGE:
            return data[:2] + b"\xff" * 20
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if held is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif held == SERVFAIL:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            self._fill(response, name, kind)
        return response.to_wire(max_size=limit, prefer_truncation=True)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        for line in self.zone.get(name, ()):
            type_, _, value = line.partition(" ")
            if type_ in (kind, "CNAME"):
                found = dns.rrset.from_text(f"{name}.", 300, "IN", type_, value)
                response.answer.append(found)
            if type_ == "CNAME":
                self._fill(response, value.rstrip("."), kind)


class OverTls:
    """The same server by DNS over TLS. connections: how many were ever made."""

    def __init__(self, dns_server: DnsServer) -> None:
        self.address = ""
        self.connections = 0
        self._dns_server = dns_server
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                answer = self._dns_server.answer(await reader.readexactly(size)) or b""
                writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    async def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.close()
        self._open.clear()


@contextlib.asynccontextmanager
async def over_tls(dns_server: DnsServer, certificate: Certificate) -> AsyncIterator[OverTls]:
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(certificate.cert, certificate.key)
    tls = OverTls(dns_server)
    server = await asyncio.start_server(tls.serve, "127.0.0.1", 0, ssl=shown)
    tls.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tls
    finally:
        server.close()
        await tls.hang_up()


@pytest.fixture
async def dns_server() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start("127.0.0.1")
    yield server
    server.stop()
