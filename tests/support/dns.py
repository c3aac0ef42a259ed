"""A DNS server on loopback that answers what the test puts in its zone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

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
        answer = self._answer(data, 1232 if self._server is not None else 65535)
        if answer is not None:
            self._transport.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        answer = self._answer(data, 65535)
        if answer is not None:
            writer.write(len(answer).to_bytes(2) + answer)
            await writer.drain()
        writer.close()

    def _answer(self, data: bytes, limit: int) -> bytes | None:
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


@pytest.fixture
async def dns_server() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start("127.0.0.1")
    yield server
    server.stop()
