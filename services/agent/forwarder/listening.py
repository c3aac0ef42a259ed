"""Where clients ask: UDP and TCP on the overlay addresses of this host."""

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol, TypeAlias

AT_ONCE = 64
"""Packets that one socket may have answered before others have their turn."""
LARGEST_QUESTION_BYTES = 4096
RECEIVE_BUFFER = 1 << 20
MOST_CONNECTIONS = 256
MOST_OF_ONE = MOST_CONNECTIONS // 8
"""Connections of one client: it leaves room for others."""
IDLE_S = 10.0
"""A connection on which nobody asks anything is closed (RFC 7766 §6.2.3: a few seconds)."""
MOST_UNREAD_BYTES = 1 << 18
"""A client that asks and does not read is left."""
AGAIN_S = 0.5


class Datagram(NamedTuple):
    """Who asked by UDP."""

    socket: socket.socket
    address: tuple[str, int]


Client: TypeAlias = Datagram | asyncio.StreamWriter


class Hear(Protocol):
    """Gives the answer to a packet, None when it comes later or never."""

    def __call__(
        self, packet: bytes, source: str, client: Client, now: float, *, tcp: bool = False
    ) -> bytes | None: ...


class Listening:
    """unbound: address → why nobody can ask there; it is tried again and again. done: called after questions."""

    def __init__(self, port: int, hear: Hear, done: Callable[[], None]) -> None:
        self._port, self._hear, self._done = port, hear, done
        self._bound: dict[str, tuple[socket.socket, asyncio.Server]] = {}
        self._wanted: frozenset[str] = frozenset()
        self._connections = Counter[str]()
        self.unbound: dict[str, str] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(sorted(self._bound))

    def want(self, addresses: Collection[str]) -> None:
        """Listen on these addresses and no others, with the next call of `bind`."""
        self._wanted = frozenset(addresses)
        for address in self._bound.keys() - self._wanted:
            by_udp, by_tcp = self._bound.pop(address)
            asyncio.get_running_loop().remove_reader(by_udp)
            by_udp.close()
            by_tcp.close()
        for address in self.unbound.keys() - self._wanted:
            del self.unbound[address]

    async def bind(self) -> None:
        """Listen wherever that is wanted and not yet done."""
        for address in sorted(self._wanted - self._bound.keys()):
            try:
                by_udp = _bound(address, self._port, socket.SOCK_DGRAM)
                try:
                    by_tcp = await asyncio.start_server(
                        self._converse, sock=_bound(address, self._port, socket.SOCK_STREAM)
                    )
                except OSError:
                    by_udp.close()
                    raise
            except OSError as problem:
                self.unbound[address] = os.strerror(problem.errno) if problem.errno else str(problem)
                continue
            self.unbound.pop(address, None)
            self._bound[address] = by_udp, by_tcp
            asyncio.get_running_loop().add_reader(by_udp, self._drain, by_udp)

    def send(self, client: Client, packet: bytes) -> None:
        """An answer that took a while."""
        if isinstance(client, Datagram):
            with contextlib.suppress(OSError):
                client.socket.sendto(packet, client.address)
        elif not client.is_closing():
            if client.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
                client.transport.abort()
                return
            client.write(len(packet).to_bytes(2) + packet)

    def _drain(self, by_udp: socket.socket) -> None:
        hear, now = self._hear, time.monotonic()
        for _ in range(AT_ONCE):
            try:
                packet, address = by_udp.recvfrom(LARGEST_QUESTION_BYTES)
            except OSError:  # nothing there, or a word of ICMP about an answer
                break
            said = hear(packet, address[0], Datagram(by_udp, address), now)
            if said is not None:
                with contextlib.suppress(OSError):
                    by_udp.sendto(said, address)
        self._done()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's questions, answered as answers come (RFC 7766 §6.2.1)."""
        source = writer.get_extra_info("peername")[0]
        self._connections[source] += 1
        try:
            if self._connections[source] > MOST_OF_ONE or self._connections.total() > MOST_CONNECTIONS:
                return
            while not writer.is_closing():
                async with asyncio.timeout(IDLE_S):
                    size = int.from_bytes(await reader.readexactly(2))
                    if size > LARGEST_QUESTION_BYTES:
                        break
                    packet = await reader.readexactly(size)
                said = self._hear(packet, source, writer, time.monotonic(), tcp=True)
                if said is not None:
                    self.send(writer, said)
                self._done()
        except (EOFError, OSError, TimeoutError):
            pass
        finally:
            self._connections[source] -= 1
            if not self._connections[source]:
                del self._connections[source]
            writer.close()


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
