"""A management replica without its outer parts: read model and log on a real bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from services.management.core.commands.decision import Decision
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from services.management.log import Log
from services.management.readmodel.readmodel import ReadModel
from services.management.troubles import Troubles
from shared.bus.codec import encode
from shared.bus.connection import connect
from shared.bus.streams import LOG
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from tests import builders
from tests.support.bus import Bus


class Replica:
    """connection: its own, as management. readmodel and log work while `running`, unless `troubles` has something."""

    def __init__(self, connection: Client, file: Path) -> None:
        self.connection = connection
        self.troubles = Troubles()
        self.readmodel = ReadModel(connection, file, Undecodables(), self.troubles)
        self.log = Log(connection, self.readmodel, self.troubles.require_changeable)

    def lag(self) -> None:
        """Fold nothing from now on until the fold is asked to catch up."""
        readmodel, waiting = self.readmodel, []  # type: ignore[var-annotated]
        take, catch_up = readmodel.take, readmodel.catch_up

        async def at_last() -> None:
            for message, sequence in waiting:
                take(message, sequence)
            readmodel.take, readmodel.catch_up = take, catch_up  # type: ignore[method-assign]
            await catch_up()

        readmodel.take = lambda *late: waiting.append(late)  # type: ignore[method-assign]
        readmodel.catch_up = at_last  # type: ignore[method-assign]

    @property
    def account(self) -> AccountState:
        return self.readmodel.intent.accounts[builders.ACCOUNT]


@asynccontextmanager
async def running(bus: Bus, file: Path) -> AsyncIterator[Replica]:
    """A replica that has caught up with the log."""
    connection = await connect(bus.url, bus.keys.management, "management")
    replica = Replica(connection, file)
    await replica.readmodel.open()
    tasks = [asyncio.create_task(work()) for work in (replica.readmodel.follow, replica.readmodel.save)]
    try:
        await replica.readmodel.catch_up()
        yield replica
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await replica.readmodel.close()
        await connection.close()


async def append(bus: Bus, commit: Commit) -> int:
    """Write a commit past every rule; gives its sequence."""
    ack = await bus.management.jetstream().publish(subjects.log(commit.account), encode(commit))
    return ack.seq


async def whole_log(bus: Bus) -> list[bytes]:
    """The data of every message of the log."""
    jetstream = bus.management.jetstream()
    last = (await jetstream.stream_info(LOG)).state.last_seq
    return [(await jetstream.get_msg(LOG, sequence)).data or b"" for sequence in range(1, last + 1)]


def adding_group(name: str, seen: list[int] | None = None) -> Callable[[AccountState], Decision[str]]:
    """A command that makes a group with that name; `seen` gets how many groups there were at each try."""

    def decide(state: AccountState) -> Decision[str]:
        if seen is not None:
            seen.append(len(state.groups))
        return Decision(builders.commit(builders.group(name)), name)

    return decide
