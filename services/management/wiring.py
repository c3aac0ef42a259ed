"""Builds management."""

import asyncio
import contextlib
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

from services.management import buswatch, factgc
from services.management.admission.callout import Callout
from services.management.admission.floods import Floods
from services.management.admission.withdrawal import Withdrawal
from services.management.api.app import create_app
from services.management.api.deps import Deps
from services.management.bootstrap import ensure_account
from services.management.drain import drained
from services.management.enrolment import Enrolment
from services.management.errors import LogChanged
from services.management.ids import new_id, new_setup_key
from services.management.leases import Leases
from services.management.log import Log
from services.management.outages import OutageTeller
from services.management.peerfacts import Presence
from services.management.projector.facts import Facts
from services.management.projector.keeper import Dial
from services.management.projector.lastwords import LastWords
from services.management.projector.projector import CONSUMER, Projector
from services.management.projector.succession import Succession
from services.management.readmodel.readmodel import ReadModel
from services.management.serving import serve
from services.management.settings import ROLE, Settings
from services.management.troubles import START, Troubles
from services.management.wholeness import Wholeness
from shared.bus.broker import Leave, over
from shared.bus.connection import connect
from shared.bus.keys import curve_key, read_seed
from shared.bus.patience import OF_THE_BUS, Patience, Trouble, in_a_line
from shared.bus.reached import Reached
from shared.bus.streams import LOG, ensure_streams
from shared.bus.undecodable import Undecodables
from shared.directory import held
from shared.errors import CorruptFile, NoRoom, Taken
from shared.net.listen import Listen, parse_listen, require_free

RETRY_S = 0.5
HAND_OVER_WITHIN_S = 2.0

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
    replica = _Replica(settings, seeds, dial, connection, system)
    async with _answering(drained(create_app(replica.deps())), listen) as answering:
        await replica.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                await replica.begin(tasks)
                leaving = await replica.serve()
                log.info("serving", api=f"http://{listen}")
                try:
                    await answering
                finally:
                    await _hand_over(*leaving)
        except* LogChanged:
            anew = True
        except* (CorruptFile, Taken) as problems:
            raise problems.exceptions[0] from None
        finally:
            await replica.readmodel.close()
    return anew


class _Replica:
    """The parts of management, in the order in which they come to life."""

    def __init__(self, settings: Settings, seeds: Seeds, dial: Dial, connection: Client, system: Client) -> None:
        self._settings = settings
        self._seeds = seeds
        self._dial = dial
        self._connection = connection
        self._system = system
        self._undecodables = Undecodables()
        self._troubles = Troubles(lambda: () if connection.is_connected else (buswatch.AWAY,), starting=True)
        self.readmodel = ReadModel(connection, settings.data_dir / "readmodel.db", self._undecodables, self._troubles)
        reached = Reached(settings.remembered or settings.credentials)
        self._wholeness = Wholeness(connection, self.readmodel, reached, self._troubles, lambda: self.readmodel.lost)
        self._log = Log(connection, self.readmodel, self._troubles.require_changeable)
        self._presence = Presence(self._undecodables)
        self._last_words = LastWords(self.readmodel, self._undecodables)
        self._facts = Facts(self.readmodel, self._undecodables)
        self._floods = Floods()
        self._leases = Leases(connection, self.readmodel, self._undecodables)

    def deps(self) -> Deps:
        """What the API needs."""
        return Deps(
            intent=self.readmodel.intent,
            commit=self._log.commit,
            events=self.readmodel.events,
            facts=self._presence,
            last_words=self._last_words.of,
            resolutions=self._facts.resolutions,
            now=time.time,
            new_id=new_id,
            new_setup_key=new_setup_key,
            troubles=self._troubles,
        )

    async def open(self) -> None:
        """Take over what the bus and the read model's file hold."""
        await self._insist("log", self._wholeness.begun)
        await self._insist(
            "streams", partial(ensure_streams, self._connection.jetstream(), self._settings.stream_replicas)
        )
        await self._insist("read model", self.readmodel.open)

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Do all that needs no other replica's leave, for ever; make the first account where the log is empty."""
        tasks.create_task(self.readmodel.follow())
        tasks.create_task(self.readmodel.save())
        if await self._insist("log", self._wholeness.to_begin):
            await self._insist("first account", self._found)
        await self._wholeness.note()
        tasks.create_task(self._wholeness.watch())
        tasks.create_task(buswatch.watch(self._connection, self._system, self._troubles))
        tasks.create_task(self._presence.follow(self._connection))
        tasks.create_task(self._leases.follow())
        projector = self._projector()
        tasks.create_task(projector.run())
        tasks.create_task(self._outages(projector).run())
        tasks.create_task(Succession(self._connection, self._system, f"{LOG}.{CONSUMER}").run())
        tasks.create_task(factgc.sweep(self._connection, self.readmodel))
        tasks.create_task(Withdrawal(self._system, self.readmodel, self._floods).run())

    def _projector(self) -> Projector:
        return Projector(
            self._connection, self._dial, self.readmodel, self._undecodables, self._last_words, self._facts
        )

    def _outages(self, projector: Projector) -> OutageTeller:
        outages = OutageTeller(self.readmodel, self._last_words.of, lambda: projector.owner, self._log.commit, new_id)
        projector.on_presence = outages.look
        return outages

    async def serve(self) -> tuple[Leave, ...]:
        """Answer who connects, who enrols and who holds what; gives what ends each."""
        broker = await over(self._connection, self._undecodables)
        callout = Callout(self.readmodel, self._seeds.issuer, curve_key(self._seeds.callout), self._floods)
        leaving = [await callout.serve(broker)]
        try:
            # An answer of the bus to this connection proves that it has the subscriptions before it.
            await self._insist("log", self.readmodel.catch_up)
            # From its subscription on it is handed hosts that enrol, and may not refuse their commits.
            self._troubles.end(START)
            enrolment = Enrolment(self.readmodel, self._log.commit, new_id, callout.standing, self._undecodables)
            leaving.append(await enrolment.serve(broker))
            leaving.append(await self._leases.serve(broker))
            await self._insist("log", self.readmodel.catch_up)
        except BaseException:  # the connection stays, and another replica of this process may follow on it
            await _hand_over(*leaving)
            raise
        self._troubles.end(START)
        return tuple(leaving)

    async def _found(self) -> None:
        token_file = self._settings.admin_token or self._settings.data_dir / "admin.token"
        await ensure_account(self._connection, self.readmodel, token_file, self._settings.dns_domain, new_id)

    async def _insist(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do it until it succeeds: a server that just started, or a cluster without a leader, refuses for a while."""

        def note(problem: Exception) -> None:
            self._troubles.arise(START, f"{what} not ready: {in_a_line(problem)}", serves=False)

        trouble = Trouble(f"{what} not ready", f"{what} ready after all")
        return await Patience(trouble, (*OF_THE_BUS, NoRoom), every_s=RETRY_S, heard=note).done(attempt)


@contextlib.asynccontextmanager
async def _answering(app: ASGIApp, listen: Listen) -> AsyncIterator[asyncio.Task[None]]:
    """The API answers from here on, also to say what keeps the replica from being ready. Gives what serves it."""
    serving = asyncio.create_task(serve(app, listen))
    try:
        yield serving
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _hand_over(*leaving: Leave) -> None:
    """Take no more requests from the bus, and finish those at work: the other replicas get the next ones."""
    for leave in leaving:
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(HAND_OVER_WITHIN_S):
                await leave()
