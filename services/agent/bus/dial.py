"""Connections to the bus that no exit route captures: their packets carry CONTROL_MARK and skip the overlay's table."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, urlsplit

import nats.errors
from nats.aio.client import Client

from services.agent.core.kernel import CONTROL_MARK
from services.agent.core.parsed import address_of
from services.agent.errors import AdmissionRefused
from services.agent.ports import Login
from shared.bus.address import BusAddress, parse_bus
from shared.bus.client import BusClient
from shared.bus.transport import BusTransport
from shared.errors import BusUnavailable
from shared.events import subjects

CONNECT_TIMEOUT_S = 8.0
"""Longer than the bus waits for an answer of management (authorization timeout 5 s, shared/bus/embedded/config.py)."""
PER_ADDRESS_S = 3.0
UNACKNOWLEDGED_MS = 15_000
"""TCP_USER_TIMEOUT: a path that swallows packets counts as lost after three heartbeats."""
SLOW_AFTER_BYTES = 64 * 1024 * 1024


class Dialer:
    """Opens connections to one of several addresses of the bus; after a failure the next one is tried.

    urls, ca: as shared.bus.address.parse_bus takes them. Raises BadSetting for what makes no sense.
    known: host → the addresses it had when it could be resolved, those of an earlier run if somebody puts them there:
    an exit that is unreachable closes the way to the resolver, and only the bus can bring the exit back.
    """

    def __init__(self, urls: str, ca: Path | None = None) -> None:
        self._bus = parse_bus(urls, ca)
        self._turn = 0
        self.known: dict[str, tuple[str, ...]] = {}

    def addresses(self) -> frozenset[str]:
        """Where the bus may be, as far as it is known."""
        hosts = [str(urlsplit(url).hostname) for url in self._bus.urls]
        return frozenset(
            address for host in hosts for address in ((host,) if address_of(host) else self.known.get(host, ()))
        )

    async def __call__(
        self,
        login: Login,
        on_error: Callable[[Exception], Awaitable[None]] | None = None,
        on_closed: Callable[[], Awaitable[None]] | None = None,
    ) -> Client:
        url = self._bus.urls[self._turn % len(self._bus.urls)]
        transport = MarkedTransport(self._bus, self.known)
        client = BusClient(transport)
        try:
            await client.connect(
                [url],
                name=login.name,
                user=login.user or None,
                password=login.password or None,
                nkeys_seed_str=login.seed or None,
                inbox_prefix=subjects.inbox(login.inbox),
                error_cb=on_error or _ignore,
                closed_cb=on_closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,
                ping_interval=3600,
                pending_size=SLOW_AFTER_BYTES,
            )
            if client.is_connected:
                return client
            problem = "it closed the connection"
        except nats.errors.NoServersError:
            problem = transport.problem
        except OSError as error:
            problem = _said(error)
        except nats.errors.Error:
            self._turn += 1
            await transport.abandon()
            if client.client_id is None:
                raise BusUnavailable(url, "what answers there is no NATS server") from None
            raise AdmissionRefused from None
        except BaseException:
            await transport.abandon()
            raise
        self._turn += 1
        await client.close()
        await transport.abandon()
        raise BusUnavailable(url, problem)


def ends(connection: Client) -> tuple[str, str] | None:
    """This host's address and the other end's, None when the connection is closed."""
    transport = connection._transport
    writer = transport._io_writer if isinstance(transport, MarkedTransport) else None
    if writer is None:
        return None
    own, other = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    return (str(own[0]), str(other[0])) if own and other else None


class MarkedTransport(BusTransport):
    """A transport over a socket of our own. `problem` says why the last attempt failed. known: see Dialer."""

    def __init__(self, bus: BusAddress, known: dict[str, tuple[str, ...]]) -> None:
        super().__init__(bus)
        self._known = known
        self._failure: OSError | None = None

    @property
    def problem(self) -> str:
        return _said(self._failure) if self._failure else "nothing answers"

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        if self._failure is not None:
            raise self._failure  # nats-py tries a server twice in a row
        try:
            await super().connect(uri, buffer_size, connect_timeout)
        except OSError as error:  # running out of time is one
            self._failure = error
            raise

    async def _streams(self, uri: ParseResult, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connected = await self._first_that_answers(uri.hostname or "", uri.port or 4222)
        return await asyncio.open_connection(sock=connected, **options)

    async def readline(self) -> bytes:
        """The next line of the handshake. A server that waits for management asks whether we are there meanwhile."""
        assert self._io_reader is not None
        assert self._io_writer is not None
        while (line := await self._io_reader.readline()) == b"PING\r\n":
            self._io_writer.write(b"PONG\r\n")
        return bytes(line)

    async def abandon(self) -> None:
        """Close a connection that came to nothing."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()

    async def _first_that_answers(self, host: str, port: int) -> socket.socket:
        problem = OSError(f"{host} has no address")
        for address in await self._resolve(host):
            try:
                async with asyncio.timeout(PER_ADDRESS_S):
                    return await _connected(address, port)
            except OSError as error:
                problem = error
        raise problem

    async def _resolve(self, host: str) -> tuple[str, ...]:
        if address_of(host):
            return (host,)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PER_ADDRESS_S):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            if host in self._known:
                return self._known[host]
            raise
        self._known[host] = tuple(str(address[0]) for _, _, _, _, address in found)
        return self._known[host]


async def _connected(address: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        _mark(opened)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        await asyncio.get_running_loop().sock_connect(opened, (address, port))
    except BaseException:
        opened.close()
        raise
    return opened


def _mark(opened: socket.socket) -> None:
    with contextlib.suppress(PermissionError):  # without CAP_NET_ADMIN there is no exit route of ours either
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, CONTROL_MARK)


def _said(error: OSError) -> str:
    return error.strerror or str(error) or "no answer in time"


async def _ignore(_: Exception) -> None: ...
