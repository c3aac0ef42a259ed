"""A real bus for tests: nats-server, its streams when asked for, and peers with the rights that peers have."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.management.admission.jwt import Grant, admit, read_request, seal
from shared.bus.address import parse_bus
from shared.bus.client import BusClient
from shared.bus.codec import decode
from shared.bus.connection import connect
from shared.bus.embedded import server
from shared.bus.embedded.config import MAX_PAYLOAD, Credentials, credentials, render
from shared.bus.embedded.server import NatsServer
from shared.bus.keys import curve_key
from shared.bus.streams import ensure_streams
from shared.bus.transport import BusTransport
from shared.events import subjects
from shared.events.logins import HOST_ACCOUNT
from tests.support.ports import free_port
from tests.support.tls import Authority

T = TypeVar("T")

LIMIT_S = 30.0
"""How long tests wait for what a quiet machine does within a second: they also run beside others on a busy one."""


async def eventually(look: Callable[[], Any], *, within_s: float = LIMIT_S) -> Any:
    """What `look()` (a value or an awaitable) gives, once that is true; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while True:
            seen = look()
            if asyncio.iscoroutine(seen):
                seen = await seen
            if seen:
                return seen
            await asyncio.sleep(0.01)


class Bus:
    """A running server, connected to as management, which lets any peer in under the name it gives.

    tls: who issued what it shows, a certificate for 127.0.0.1; None for plain text.
    """

    def __init__(self, directory: Path, tls: Authority | None = None) -> None:
        self.keys: Credentials = credentials(directory / "keys")
        self.seeds = directory / "keys"
        self._directory = directory / "bus"
        self._tls = tls
        self.server = NatsServer(self._directory, self.keys, port=free_port(), tls=tls.files if tls else None)
        self.management: Client
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        return self.server.url

    async def start(self) -> None:
        await self.server.start()
        await self.open()

    async def open(self) -> None:
        """Let peers in, on a server that runs."""
        self.management = await self.service("management")
        await self.management.subscribe(subjects.AUTH_CALLOUT, cb=self._admit)

    async def restart(self) -> None:
        """Stop the server and start it again at the same address; clients come back by themselves."""
        port = int(self.url.rpartition(":")[2])
        await self.server.stop()
        self.server = NatsServer(self._directory, self.keys, port=port, tls=self._tls.files if self._tls else None)
        await self.server.start()

    async def make_streams(self) -> None:
        await ensure_streams(self.management.jetstream())

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()
        await self.server.stop()

    async def service(self, role: str) -> Client:
        """A connection as one of the services."""
        client = await connect(self.url, getattr(self.keys, role), role, ca=self._tls.ca if self._tls else None)
        self._clients.append(client)
        return client

    async def peer(self, account: str, peer: str) -> Client:
        """A connection with the rights of that peer."""
        bus = parse_bus(self.url)
        client = BusClient(BusTransport(bus))
        await client.connect(
            list(bus.urls),
            user=f"{account}.{peer}",
            password="",
            inbox_prefix=subjects.inbox(peer),
            reconnect_time_wait=0.1,
        )
        self._clients.append(client)
        return client

    async def last(self, stream: str, subject: str, type_: type[T]) -> T | None:
        """The last value of a subject; None when there is none, or when the question was lost with its connection."""
        try:
            message = await self.management.jetstream().get_last_msg(stream, subject)
        except (NotFoundError, nats.errors.TimeoutError):
            return None
        assert message.data is not None
        return decode(subject, message.data, type_)

    async def values_ever(self, stream: str) -> int:
        """How many messages were ever stored in a stream."""
        return (await self.management.jetstream().stream_info(stream)).state.last_seq

    async def _admit(self, message: Msg) -> None:
        server_key = (message.headers or {})["Nats-Server-Xkey"]
        request = read_request(message.data, server_key, curve_key(self.keys.callout))
        account, _, peer = request.presented.user.partition(".")
        grant = Grant(
            name=f"{account}.{peer}",
            account=HOST_ACCOUNT,
            publish=(
                subjects.signals_from(account, peer),
                subjects.beat(account, peer),
                subjects.report_fact(account, peer),
                subjects.candidacy_fact(account, peer),
                subjects.resolved(account, peer),
            ),
            subscribe=(
                subjects.signals_to(account, peer),
                subjects.resolve(account, peer),
                f"{subjects.inbox(peer)}.>",
            ),
        )
        answer = admit(request, grant, self.keys.issuer, time.time())
        await message.respond(seal(answer, server_key, curve_key(self.keys.callout)))


@pytest.fixture
async def bare_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus without streams: management has not been there yet."""
    bus = Bus(tmp_path)
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def bus(bare_bus: Bus) -> Bus:
    await bare_bus.make_streams()
    return bare_bus


@pytest.fixture
async def impatient_bus(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bus]:
    """A bus with streams that cuts off a client with more than so many bytes before it (the parameter), not 64 MiB."""

    def rendered(*arguments: Any, **options: Any) -> str:
        limits = f"max_payload: {1024**2 + 1024}\nmax_pending: {request.param}"
        return render(*arguments, **options).replace(f"max_payload: {MAX_PAYLOAD}", limits, 1)

    monkeypatch.setattr(server, "render", rendered)
    bus = Bus(tmp_path)
    await bus.start()
    await bus.make_streams()
    yield bus
    await bus.stop()


def freeze(pid: int) -> None:
    """Stop the process; none of its threads runs any more once this returns. SIGCONT has it go on."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    while any(_state(thread) != "T" for thread in threads.iterdir()):  # the signal reaches each at its own time
        time.sleep(0.001)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]
