"""Connections that stay open, over the real HTTP server: an answer ends none of them without a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from services.management import drain
from services.management.serving import serve
from shared.net.listen import Listen, require_free
from tests.unit.api.world import World

EARLY = [
    ("PUT", "/api/nothing", "owner", 404),
    ("PUT", "/api/routes/nothing", "owner", 404),
    ("PUT", "/api/routes", "owner", 405),
    ("POST", "/healthz", "owner", 405),
    ("PUT", "/api/routes/lan", "nobody", 401),
    ("POST", "/api/groups", "user", 403),
    ("GET", "/api/routes", "owner", 200),
    ("DELETE", "/api/routes/nothing", "owner", 404),
]
"""Answered without a look at the body."""


class Connection:
    """One connection to the API."""

    def __init__(self, world: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._world, self._reader, self._writer = world, reader, writer

    async def send(self, method: str, path: str, caller: str, *headers: str) -> None:
        token = f"Authorization: Token {self._world.token(caller)}" if caller != "nobody" else "X-Nobody: 1"
        lines = [f"{method} {path} HTTP/1.1", "Host: api", token, "Content-Type: application/json", *headers, "", ""]
        await self.more("\r\n".join(lines).encode())

    async def more(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bool]:
        """Status, and whether it announces the end of the connection."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split()[1]), b"\r\nconnection: close" in head

    async def ended(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return await self._reader.read() == b""
        return True


class Served:
    def __init__(self, listen: Listen) -> None:
        self.listen, self.world = listen, World()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection(self.listen.host, self.listen.port)
        try:
            yield Connection(self.world, reader, writer)
        finally:
            writer.close()

    async def has_seen_everything_so_far(self) -> None:
        async with httpx.AsyncClient(base_url=f"http://{self.listen}", trust_env=False) as client:
            for _ in range(3):
                await client.get("/healthz")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(require_free(Listen("127.0.0.1", 0), "--api"))
    serving = asyncio.create_task(serve(drain.drained(served.world.server.app), served.listen))
    async with httpx.AsyncClient(base_url=f"http://{served.listen}", trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                await client.get("/healthz")
                break
            await asyncio.sleep(0.01)
    yield served
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize(("method", "path", "caller", "status"), EARLY)
async def test_an_answer_that_needs_no_body_keeps_the_connection(
    served: Served, method: str, path: str, caller: str, status: int
) -> None:
    async with served.connection() as connection:
        for size in (20, 300_000, 20):
            await connection.send(method, path, caller, f"Content-Length: {size}")
            await served.has_seen_everything_so_far()
            await connection.more(b" " * size)
            assert await connection.answer() == (status, False)


async def test_a_body_of_unknown_length_is_read_to_its_end(served: Served) -> None:
    async with served.connection() as connection:
        for _ in range(2):
            await connection.send("PUT", "/api/nothing", "owner", "Transfer-Encoding: chunked")
            await served.has_seen_everything_so_far()
            await connection.more(b"2\r\n{}\r\n0\r\n\r\n")
            assert await connection.answer() == (404, False)


async def test_a_body_that_is_too_large_is_answered_and_the_connection_stays(served: Served) -> None:
    async with served.connection() as connection:
        for _ in range(2):
            await connection.send("POST", "/api/groups", "owner", "Content-Length: 3000000")
            await connection.more(b" " * 3_000_000)
            assert await connection.answer() == (413, False)


async def test_a_body_without_end_is_answered_and_the_connections_end_announced(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "MOST_BYTES", 100_000)
    async with served.connection() as connection:
        await connection.send("PUT", "/api/nothing", "owner", "Content-Length: 1000000000")
        await connection.more(b" " * 200_000)
        assert await connection.answer() == (404, True)
        assert await connection.ended()


async def test_a_body_that_does_not_come_is_answered_and_the_connections_end_announced(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "WITHIN_S", 0.05)
    async with served.connection() as connection:
        await connection.send("PUT", "/api/nothing", "owner", "Content-Length: 10")
        assert await connection.answer() == (404, True)
        assert await connection.ended()


async def test_who_waits_with_its_body_is_not_asked_for_what_nobody_reads(served: Served) -> None:
    async with served.connection() as connection:
        await connection.send("PUT", "/api/nothing", "owner", "Content-Length: 10", "Expect: 100-continue")
        assert await connection.answer() == (404, True)
        assert await connection.ended()
