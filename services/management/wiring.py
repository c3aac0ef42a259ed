"""Builds management."""

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import nats.errors
import structlog
from litestar.types import ASGIApp
from nats.aio.client import Client

from services.management import backup, bootstrap, buswatch, loss
from services.management import factgc as oldfacts
from services.management.admission.callout import Callout
from services.management.admission.floods import Floods
from services.management.admission.withdrawal import Withdrawal
from services.management.api.app import create_app
from services.management.api.deps import Deps
from services.management.bootstrap import ensure_account
from services.management.core.commands.decision import Context, Decision
from services.management.core.commands.tokens import replace_owners_tokens
from services.management.core.evidence import problem
from services.management.core.model.commit import Actor
from services.management.core.state import AccountState
from services.management.drain import drained
from services.management.enrolment import Enrolment
from services.management.errors import LogChanged, NotRestored, Refusal, RetryLater, Unknown
from services.management.ids import new_id, new_setup_key
from services.management.log import Log
from services.management.peerfacts import Presence
from services.management.projector.keeper import Dial
from services.management.projector.projector import Projector
from services.management.readmodel.readmodel import ReadModel
from services.management.serving import serve
from services.management.settings import Settings
from services.management.troubles import START, Troubles
from services.management.wholeness import Wholeness
from shared.bus.connection import connect
from shared.bus.keys import curve_key, read_seed, secret_written
from shared.bus.patience import OF_THE_BUS, Patience, Trouble, in_a_line
from shared.bus.reached import Reached
from shared.bus.streams import ensure_streams
from shared.bus.undecodable import Undecodables
from shared.directory import held
from shared.errors import CorruptFile, NoRoom, Taken
from shared.net.listen import Listen, parse_listen, require_free

ROLE = "management"
RETRY_S = 0.5
HAND_OVER_WITHIN_S = 2.0
REACHED_WITHIN_S = 20.0

NotDone = (NotRestored, Refusal, RetryLater)
"""What the commands that are run beside the replicas end with, one line each."""

T = TypeVar("T")

log = structlog.get_logger()


class Seeds(msgspec.Struct, frozen=True, kw_only=True):
    management: str
    system: str
    issuer: str
    callout: str


def read_seeds(folder: Path) -> Seeds:
    return Seeds(**{role: read_seed(folder / f"{role}.nk") for role in Seeds.__struct_fields__})


async def run(settings: Settings) -> None:
    """Serve until cancelled. Raises BadSetting, CorruptFile or Taken before anything else."""
    seeds = read_seeds(settings.credentials)
    with held(settings.data_dir):
        listen = require_free(parse_listen(settings.api, "--api"), "--api")
        dial = partial(connect, settings.bus, seeds.management, ROLE, ca=settings.bus_ca, name=settings.bus_name)
        connection = await dial()
        try:
            system = await connect(settings.bus, seeds.system, "system", ca=settings.bus_ca, name=settings.bus_name)
            try:
                while await _run(settings, seeds, listen, dial, connection, system):
                    log.warning("the log is another one now, starting anew")
            finally:
                await system.close()
        finally:
            await connection.close()


async def _run(
    settings: Settings, seeds: Seeds, listen: Listen, dial: Dial, connection: Client, system: Client
) -> bool:
    """Whether to start anew, because the log is another one now."""
    anew = False
    undecodables = Undecodables()
    troubles = Troubles(lambda: () if connection.is_connected else (buswatch.AWAY,), starting=True)
    insist = partial(_insist, troubles)
    readmodel = ReadModel(connection, settings.data_dir / "readmodel.db", undecodables, troubles)
    reached = Reached(settings.remembered or settings.credentials)
    wholeness = Wholeness(connection, readmodel, reached, troubles, lambda: readmodel.lost)
    writer = Log(connection, readmodel, troubles.require_changeable)
    presence = Presence(undecodables)
    deps = Deps(
        intent=readmodel.intent,
        commit=writer.commit,
        events=readmodel.events,
        facts=presence,
        now=time.time,
        new_id=new_id,
        new_setup_key=new_setup_key,
        troubles=troubles,
    )
    async with _answering(drained(create_app(deps)), listen) as answering:
        await insist("log", wholeness.begun)
        await insist("streams", partial(ensure_streams, connection.jetstream(), settings.stream_replicas))
        await insist("read model", readmodel.open)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(readmodel.follow())
                tasks.create_task(readmodel.save())
                if await insist("log", wholeness.to_begin):
                    token_file = settings.admin_token or settings.data_dir / "admin.token"
                    founding = partial(ensure_account, connection, readmodel, token_file, settings.dns_domain, new_id)
                    await insist("first account", founding)
                await wholeness.note()
                tasks.create_task(wholeness.watch())
                tasks.create_task(buswatch.watch(connection, system, troubles))
                tasks.create_task(presence.follow(connection))
                tasks.create_task(Projector(connection, dial, readmodel, undecodables).run())
                tasks.create_task(oldfacts.sweep(connection, readmodel))
                floods = Floods()
                tasks.create_task(Withdrawal(system, readmodel, floods).run())
                callout = Callout(readmodel, seeds.issuer, curve_key(seeds.callout), undecodables, floods)
                leave_admission = await callout.serve(connection)
                # An answer of the bus to this connection proves that it has the subscriptions before it.
                await insist("log", readmodel.catch_up)
                # From its subscription on it is handed hosts that enrol, and may not refuse their commits.
                troubles.end(START)
                leave_enrolment = await Enrolment(
                    readmodel, writer.commit, new_id, callout.standing, undecodables
                ).serve(connection)
                await insist("log", readmodel.catch_up)
                troubles.end(START)
                log.info("serving", api=f"http://{listen}")
                try:
                    await answering
                finally:
                    await _hand_over(leave_admission, leave_enrolment)
        except* LogChanged:
            anew = True
        except* (CorruptFile, Taken) as problems:
            raise problems.exceptions[0] from None
        finally:
            await readmodel.close()
    return anew


@contextlib.asynccontextmanager
async def _answering(app: ASGIApp, listen: Listen) -> AsyncIterator[asyncio.Task[None]]:
    """The API answers from here on, also to say what keeps the replica from being ready. Gives what serves it."""
    serving = asyncio.create_task(serve(app, listen))
    try:
        yield serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _hand_over(*leaving: Callable[[], Awaitable[None]]) -> None:
    """Take no more requests from the bus, and finish those at work: the other replicas get the next ones."""
    for leave in leaving:
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(HAND_OVER_WITHIN_S):
                await leave()


async def _insist(troubles: Troubles, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Do it until it succeeds: a server that has just started, or a cluster without a leader, refuses for a while."""

    def note(problem: Exception) -> None:
        troubles.arise(START, f"{what} not ready: {in_a_line(problem)}", serves=False)

    trouble = Trouble(f"{what} not ready", f"{what} ready after all")
    return await Patience(trouble, (*OF_THE_BUS, NoRoom), every_s=RETRY_S, heard=note).done(attempt)


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

            with secret_written(file, token + "\n"):
                await writer.commit(account, decide)
            return
    raise Unknown("the log holds no account: start management first")
