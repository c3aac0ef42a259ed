"""How long another process takes to take over a large feed, and how large it becomes: run by hand, it takes minutes.

`python -m tests.bench.feed_takeover [PEERS VIEWERS]`: an account whose every peer is seen by that many groups. One
process writes its feed, another follows; then the first is killed. The reference is the same process as a follower.
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from nats.aio.client import Client

from services.management.core.entities import Entity
from shared.bus.codec import encode
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import FEED, ensure_streams
from shared.events import subjects
from tests import builders
from tests.bench.feed_rewrite import viewed_by
from tests.builders import ACCOUNT, group, peer
from tests.support.bus import eventually

ROOT = Path(__file__).parents[2]
PEERS, VIEWERS = 20_000, 49
AT_ONCE = 2_000
LIMIT_S = 1_800.0
REST_S = 5.0
"""Until a follower's memory has settled."""


class Replica:
    """A replica of management, as far as the projector is concerned, as a process."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self._process = process
        self._output = output

    def owns(self) -> bool:
        return "projector took over" in self._output.read_text()

    def memory(self) -> tuple[int, int]:
        """Resident MB, now and at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        now, most = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) // 1024 for name in ("VmRSS", "VmHWM"))
        return now, most

    def kill(self) -> None:
        self._process.kill()


@asynccontextmanager
async def replica(directory: Path, url: str, seed: Path) -> AsyncIterator[Replica]:
    directory.mkdir()
    output = directory / "output"
    arguments = (sys.executable, "-m", "tests.bus.projector.replica", url, str(seed), str(directory))
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield Replica(process, output)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main(directory: Path, peers: int, viewers: int) -> None:
    keys = credentials(directory / "keys")
    seed = directory / "keys" / "management.nk"
    server = NatsServer(directory / "bus", keys)
    await server.start()
    own = await connect(server.url, keys.management, "management")
    try:
        await ensure_streams(own.jetstream())
        await commit(own, builders.account(), builders.group_all(), *viewed_by(viewers), group("office"))
        for start in range(0, peers, AT_ONCE):
            await commit(own, *(peer(f"p{number}", "office") for number in range(start, min(peers, start + AT_ONCE))))
        async with replica(directory / "first", server.url, seed) as first:
            begin = time.monotonic()
            documents = peers * (viewers + 1)
            await eventually(lambda: reaches(own, documents), within_s=LIMIT_S)
            print(f"{documents} documents written in {time.monotonic() - begin:.1f} s", flush=True)
            async with replica(directory / "second", server.url, seed) as second:
                await asyncio.sleep(REST_S)
                print(f"owner {first.memory()} MB, follower {second.memory()} MB (now, at most)", flush=True)
                first.kill()
                begin = time.monotonic()
                await eventually(second.owns, within_s=LIMIT_S)
                print(f"took over after {time.monotonic() - begin:.1f} s", flush=True)
                await asyncio.sleep(REST_S)
                print(f"then {second.memory()} MB (now, at most)", flush=True)
    finally:
        await own.close()
        await server.stop()


async def commit(own: Client, *entities: Entity) -> None:
    await own.jetstream().publish(subjects.log(ACCOUNT), encode(builders.commit(*entities)))


async def reaches(own: Client, sequence: int) -> bool:
    return (await own.jetstream().stream_info(FEED)).state.last_seq >= sequence


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder:
        sizes = [int(size) for size in sys.argv[1:]] or [PEERS, VIEWERS]
        uvloop.run(main(Path(folder), *sizes))
