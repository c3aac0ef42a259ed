"""Replicas of management as processes, over accounts of three sizes: how long a start and a takeover take, how large a
replica becomes, and how long writes wait while somebody lists every peer in a loop.

References in the same run: a start that folds the log instead of reading its file, the memory of a follower, the same
writes with nothing else to do. `python -m tests.bench.replicas [PEERS GROUPS]` measures one size.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import uvloop
from nats.aio.client import Client

from shared.bus.codec import encode
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import FEED, LOG, ensure_streams
from shared.events import subjects
from tests.bench.estates import SIZES, TOKEN, Size, commits
from tests.bench.figures import Figure, figure
from tests.builders import ACCOUNT
from tests.support.bus import eventually
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
WRITES = 100
LIMIT_S = 600.0
REST_S = 3.0
"""Until memory and a stream have settled."""


class Replica:
    """One process. began: when it was started."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path, api: str) -> None:
        self._process = process
        self._output = output
        self._known = psutil.Process(process.pid)
        self.began = time.monotonic()
        self.api = httpx.AsyncClient(
            base_url=f"http://{api}", headers={"Authorization": f"Token {TOKEN}"}, timeout=60, trust_env=False
        )

    async def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.api.get("/readyz")).status_code == 200
        return False

    def owns(self) -> bool:
        return "projector took over" in self._output.read_text()

    def megabytes(self) -> float:
        return self._known.memory_info().rss / 1e6

    def cpu_s(self) -> float:
        times = self._known.cpu_times()
        return times.user + times.system

    async def end(self, *, kill: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill() if kill else self._process.terminate()
        await self._process.wait()
        await self.api.aclose()


class Plane:
    """A bus with the log of an account of that size."""

    def __init__(self, directory: Path, server: NatsServer, own: Client) -> None:
        self._directory = directory
        self._server = server
        self._own = own
        self._starts = 0

    async def found(self, size: Size) -> None:
        await ensure_streams(self._own.jetstream())
        number = 0
        for number, commit in enumerate(commits(size), 1):
            await self._own.publish(subjects.log(ACCOUNT), encode(commit))
            if number % 500 == 0:
                await self._own.flush()
        await eventually(lambda: self._reaches(number), within_s=LIMIT_S)

    async def _reaches(self, sequence: int) -> bool:
        return (await self._own.jetstream().stream_info(LOG)).state.last_seq >= sequence

    async def settled(self) -> int:
        """How many documents FEED has, once it has got no more for a while."""
        before = -1
        while True:
            state = (await self._own.jetstream().stream_info(FEED)).state
            if state.last_seq == before:
                return state.messages
            before = state.last_seq
            await asyncio.sleep(REST_S)

    @asynccontextmanager
    async def replica(self, name: str) -> AsyncIterator[Replica]:
        """One that is ready. It has the file of the last one with that name."""
        self._starts += 1
        output = self._directory / f"{self._starts}.log"
        api = f"127.0.0.1:{free_port()}"
        options = ("--bus", self._server.url, "--credentials", str(self._directory / "keys"), "--api", api)
        arguments = (sys.executable, "-m", "services.management", *options, "--data-dir", str(self._directory / name))
        with output.open("wb") as file:
            process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=file, stderr=file)
        replica = Replica(process, output, api)
        try:
            await eventually(replica.ready, within_s=LIMIT_S)
            yield replica
        finally:
            await replica.end()


def measure(sizes: Iterable[Size] = SIZES) -> list[Figure]:
    return [one for size in sizes for one in uvloop.run(_measure(size))]


async def _measure(size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder:
        directory = Path(folder)
        keys = credentials(directory / "keys")
        server = NatsServer(directory / "bus", keys)
        await server.start()
        own = await connect(server.url, keys.management, "management")
        try:
            plane = Plane(directory, server, own)
            await plane.found(size)
            async with plane.replica("first") as owner:
                await eventually(owner.owns, within_s=LIMIT_S)
                documents = await plane.settled()
                return [*await _starts(plane, size), *await _takeover(plane, owner, documents)]
        finally:
            await own.close()
            await server.stop()


async def _starts(plane: Plane, size: Size) -> list[Figure]:
    taken: dict[str, list[float]] = {"": [], "CPU": []}
    async with plane.replica("second") as folding:
        anew = time.monotonic() - folding.began
    for _ in range(3):
        async with plane.replica("second") as replica:
            taken[""].append(time.monotonic() - replica.began)
            taken["CPU"].append(replica.cpu_s())
    return [
        figure(f"{size}: a replica with its file is ready", "s", taken[""], "≤ 1.5"),
        figure("CPU until then", "s", taken["CPU"]),
        figure("reference: the log folded anew", "s", [anew]),
    ]


async def _takeover(plane: Plane, owner: Replica, documents: int) -> list[Figure]:
    async with plane.replica("second") as second:
        await asyncio.sleep(REST_S)
        follower, before = second.megabytes(), second.cpu_s()
        begin = time.monotonic()
        await owner.end(kill=True)
        await eventually(second.owns, within_s=LIMIT_S)
        took, cpu = time.monotonic() - begin, second.cpu_s() - before
        most = 0.0
        for _ in range(30):
            most = max(most, second.megabytes())
            await asyncio.sleep(REST_S / 10)
        return [
            figure(f"takeover of {documents:,} documents", "s", [took], "≤ 3"),
            figure("CPU until then", "s", [cpu]),
            figure("memory of the successor, then", "MB", [second.megabytes()], "≤ 1.3 × a follower's"),
            figure("memory of the successor, at most", "MB", [most]),
            figure("reference: memory of a follower", "MB", [follower]),
            *await _writes(second),
        ]


async def _writes(replica: Replica) -> list[Figure]:
    at_rest, amid, lists = list[float](), list[float](), list[float]()
    await _edit(replica, at_rest)
    listing = asyncio.create_task(_list(replica, lists))
    refused = await _edit(replica, amid)
    listing.cancel()
    await asyncio.gather(listing, return_exceptions=True)
    return [
        figure("a route is edited while somebody lists every peer in a loop", "ms", amid),
        figure("such edits that were refused", "of 100", [refused], "0"),
        figure("reference: with nothing else to do", "ms", at_rest),
        figure("such a list, over HTTP", "ms", lists),
    ]


async def _list(replica: Replica, taken: list[float]) -> None:
    while True:
        begin = time.monotonic()
        async with replica.api.stream("GET", "/api/peers", headers={"Accept-Encoding": "identity"}) as answer:
            async for _ in answer.aiter_raw():
                pass
        taken.append((time.monotonic() - begin) * 1000)


async def _edit(replica: Replica, taken: list[float]) -> int:
    """One after the other; gives how many of them got another answer than 200."""
    body = {"network_id": "route00001", "network": "10.0.1.0/24", "peer_groups": ["routing1"], "groups": ["g1"]}
    refused = 0
    for number in range(WRITES):
        begin = time.monotonic()
        answer = await replica.api.put("/api/routes/route00001", json={**body, "enabled": True, "metric": number + 1})
        taken.append((time.monotonic() - begin) * 1000)
        refused += answer.status_code != 200
    return refused


if __name__ == "__main__":
    from tests.bench.__main__ import show

    show(measure([Size(*map(int, sys.argv[1:]))] if sys.argv[1:] else SIZES))
