"""Commands that are run beside the replicas: a backup, its restoration, the acceptance of a loss, another token."""

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from nats.aio.client import Client

from services.management import backup, bootstrap, loss
from services.management.core.commands.decision import Context, Decision
from services.management.core.commands.tokens import replace_owners_tokens
from services.management.core.evidence import problem
from services.management.core.model.commit import Actor
from services.management.core.state import AccountState
from services.management.errors import NotRestored, Refusal, RetryLater, Unknown
from services.management.ids import new_id
from services.management.log import Log
from services.management.readmodel.readmodel import ReadModel
from services.management.settings import ROLE, Settings
from services.management.troubles import Troubles
from services.management.wholeness import Wholeness
from shared import files
from shared.bus.connection import connect
from shared.bus.keys import read_seed
from shared.bus.reached import Reached
from shared.bus.streams import ensure_streams
from shared.bus.undecodable import Undecodables

REACHED_WITHIN_S = 20.0

NotDone = (NotRestored, Refusal, RetryLater)
"""What these commands end with, one line each."""


@contextlib.asynccontextmanager
async def _beside(settings: Settings) -> AsyncIterator[tuple[Client, ReadModel, Log, Reached]]:
    """What a command needs that is run beside the replicas: the log folded anew, and a writer of its own."""
    reached = Reached(settings.remembered or settings.credentials)
    async with _connected(settings) as connection:
        with tempfile.TemporaryDirectory() as folder:
            await ensure_streams(connection.jetstream(), settings.stream_replicas)
            undecodables, troubles = Undecodables(), Troubles()
            readmodel = ReadModel(connection, Path(folder) / "readmodel.db", undecodables, troubles)
            await readmodel.open()
            following = [asyncio.create_task(work()) for work in (readmodel.follow, readmodel.save)]
            try:
                await readmodel.catch_up()
                yield connection, readmodel, Log(connection, readmodel, troubles.require_changeable), reached
            finally:
                for task in following:
                    task.cancel()
                await asyncio.gather(*following, return_exceptions=True)
                await readmodel.close()


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Client]:
    seed = read_seed(settings.credentials / f"{ROLE}.nk")
    async with asyncio.timeout(REACHED_WITHIN_S):
        connection = await connect(settings.bus, seed, ROLE, ca=settings.bus_ca, name=settings.bus_name)
    try:
        yield connection
    finally:
        await connection.close()


async def back_up(settings: Settings, file: Path, tell: Callable[[str], None]) -> None:
    """Copy the streams of the bus into a file."""
    async with _connected(settings) as connection:
        await backup.back_up(connection, file, tell)


async def restore(settings: Settings, file: Path, tell: Callable[[str], None]) -> None:
    """Make the streams of a bus from a file; what it lacks of what is remembered counts as lost and accepted."""
    async with _connected(settings) as connection:
        await backup.restore(connection, file, settings.stream_replicas, tell)
    await accept_loss(settings, tell)


async def accept_loss(settings: Settings, tell: Callable[[str], None]) -> None:
    """Go on with the log as it is: what is missing of what was there is lost from now on.

    Without a loss nothing is done. A log without an account may be begun again.
    """
    async with _beside(settings) as (connection, readmodel, writer, reached):
        seen = await Wholeness(connection, readmodel, reached, Troubles(), lambda: 0).look()
        if problem(seen) is not None:
            await loss.fill_gap(connection, seen.last, seen.reached)
            await readmodel.catch_up()
            for account in list(readmodel.intent.accounts):
                context = Context(time.time(), Actor(id="sys", name="System"), new_id)
                await writer.commit(account, partial(_accepted, context))
            tell(f"lost: {max(0, seen.reached - seen.last)} changes at the end, {seen.missing} within")
        begun = bool(readmodel.intent.accounts)
        reached.accept(readmodel.sequence if begun else 0, seen.missing)
        tell(
            f"the log is at {readmodel.sequence}" if begun else "the log may be begun: the next start makes an account"
        )


def _accepted(context: Context, state: AccountState) -> Decision[None]:
    return loss.accept_loss(state, context)


async def new_token(settings: Settings, file: Path) -> None:
    """Give the owner another token, written to `file`; those he had are worth nothing any more.

    Raises OSError when the file cannot be written, and nothing is changed then.
    """
    token = bootstrap.new_token()
    token_hash = hashlib.sha256(token.encode()).hexdigest()
    async with _beside(settings) as (_, readmodel, writer, _reached):
        for account in list(readmodel.intent.accounts):
            context = Context(time.time(), Actor(id="sys", name="System"), new_id)

            def decide(state: AccountState, context: Context = context) -> Decision[None]:
                return replace_owners_tokens(state, bootstrap.LATER_TOKEN_NAME, token_hash, context)

            with files.written(file, f"{token}\n".encode()):
                await writer.commit(account, decide)
            return
    raise Unknown("the log holds no account: start management first")
