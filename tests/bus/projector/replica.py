"""A replica of management as far as the projector is concerned: connection, read model, projector.

`python -m tests.bus.projector.replica URL SEED_FILE DIRECTORY [PIN_TIMEOUT_S]` runs one as a process of its own, until
it is killed.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from nats.aio.client import Client

from services.management.projector.facts import Facts
from services.management.projector.keeper import Dial
from services.management.projector.lastwords import LastWords
from services.management.projector.projector import CONSUMER, Projector
from services.management.projector.succession import Succession
from services.management.readmodel.readmodel import ReadModel
from services.management.troubles import Troubles
from shared.bus import pinned
from shared.bus.connection import connect
from shared.bus.keys import read_seed
from shared.bus.streams import LOG
from shared.bus.undecodable import Undecodables


class Replica:
    """lag and catch_up stop and start its fold; stop ends the projector as SIGTERM does."""

    def __init__(self, connection: Client, system: Client, dial: Dial, directory: Path) -> None:
        self.connection = connection
        self._system = system
        self._dial = dial
        self.readmodel = ReadModel(connection, directory / "readmodel.sqlite", Undecodables(), Troubles())
        self.last_words: LastWords
        self.projector: Projector
        self._save: asyncio.Task[None]
        self._follow: asyncio.Task[None]
        self._project: asyncio.Task[None]
        self._succeed: asyncio.Task[None]

    async def start(self) -> None:
        await self.readmodel.open()
        self._save = asyncio.create_task(self.readmodel.save())
        await self.catch_up()
        self.last_words = LastWords(self.readmodel, Undecodables())
        facts = Facts(self.readmodel, Undecodables())
        self.projector = Projector(self.connection, self._dial, self.readmodel, Undecodables(), self.last_words, facts)
        self._project = asyncio.create_task(self.projector.run())
        self._succeed = asyncio.create_task(Succession(self.connection, self._system, f"{LOG}.{CONSUMER}").run())

    async def lag(self) -> None:
        await _end(self._follow)

    async def catch_up(self) -> None:
        self._follow = asyncio.create_task(self.readmodel.follow())
        await self.readmodel.catch_up()

    async def stop(self) -> None:
        await _end(self._project)

    async def close(self) -> None:
        for task in (self._project, self._succeed, self._follow, self._save):
            await _end(task)
        await self.readmodel.close()
        await self._system.close()
        await self.connection.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@asynccontextmanager
async def running(url: str, seed: str, system: str, directory: Path) -> AsyncIterator[Replica]:
    dial = partial(connect, url, seed, "management")
    replica = Replica(await dial(), await connect(url, system, "system"), dial, directory)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.close()


async def main(url: str, seed_file: Path, directory: Path) -> None:
    async with running(url, read_seed(seed_file), read_seed(seed_file.with_name("system.nk")), directory):
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[4:]:
        pinned.PIN_TIMEOUT_S = float(sys.argv[4])
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
