"""The embedded control plane: one nats-server and the three services, as children of one process."""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from services.cli.watch import Watch
from shared.backoff import LIMIT_S, delay_s
from shared.bus.connection import connect
from shared.bus.embedded import certificate
from shared.bus.embedded.certificate import Certificate
from shared.bus.embedded.config import Credentials, credentials
from shared.bus.embedded.die_with_parent import die_with_parent
from shared.bus.embedded.server import NatsServer
from shared.bus.health import start_again_with_room, write_error
from shared.directory import held
from shared.errors import BadSetting, BusUnavailable, NotStarted, Taken
from shared.net.listen import Listen, parse_listen, require_free
from shared.tasks import end_if_cancelled

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 10.0
"""Longer than a service gives itself (shared/process.py)."""

STOP_ALL_WITHIN_S = 3 * STOP_WITHIN_S
LAST_WORDS_BYTES = 4096
LOG_KEPT_BYTES = 16 * 1024 * 1024

log = structlog.get_logger()


class Child(Protocol):
    """A process that can be started again after it ended."""

    async def start(self) -> None: ...

    async def wait(self) -> int:
        """Its exit code, once it ends."""

    async def stop(self) -> None:
        """End it; return when it is gone."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run where. Every port is known. Everything that is kept is in `directory`."""

    directory: Path
    api: Listen
    bus: Listen
    tls: Certificate | None = None
    bus_name: str = ""
    """What the certificate is for; "" without one."""
    dns_router_interval: str = ""
    """As the resolver takes it; "" for its own."""

    @property
    def bus_url(self) -> str:
        return f"{'tls' if self.tls else 'nats'}://{self.bus}"

    @property
    def hosts_url(self) -> str:
        """What hosts write: with a certificate the name that it is for."""
        return f"tls://{Listen(self.bus_name, self.bus.port)}" if self.tls else self.bus_url

    @property
    def admin_token(self) -> Path:
        return self.directory / "admin.token"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"


async def supervise(
    directory: Path,
    api: str,
    bus: str,
    tls: Certificate | None,
    ready: Callable[[Plan], None],
    *,
    dns_router_interval: str = "",
) -> None:
    """Run the control plane until cancelled; calls `ready` once the API answers.

    tls: what the bus shows to who connects; on SIGHUP its files are read anew. None: the bus speaks plain text.
    Raises Taken for a directory or a port in use, BadSetting, NotStarted, BusUnavailable.
    """
    directory = directory.resolve()
    with held(directory):
        plan = Plan(
            directory=directory,
            api=require_free(parse_listen(api, "--api"), "--api"),
            bus=require_free(parse_listen(bus, "--bus"), "--bus"),
            tls=tls,
            bus_name=certificate.names(tls)[0] if tls else "",
            dns_router_interval=dns_router_interval,
        )
        plan.logs.mkdir(exist_ok=True)
        keys = credentials(directory / "keys")
        nats = NatsServer(directory / "bus", keys, host=plan.bus.host, port=plan.bus.port, tls=tls)
        services = _services(plan)
        watch = Watch(plan.api)
        watching = asyncio.create_task(watch.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _renew, plan, nats)
        try:
            await nats.start()
            for service in services:
                await service.start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_keep("nats-server", nats))
                tasks.create_task(_cure(plan, keys, nats))
                await _until_ready(watch, services)
                ready(plan)
                for service in services:
                    tasks.create_task(_keep(service.name, service))
        except* NotStarted as problems:
            raise problems.exceptions[0] from None
        finally:
            watching.cancel()
            await asyncio.gather(*(service.stop() for service in services))
            await nats.stop()


def _renew(plan: Plan, nats: NatsServer) -> None:
    """Have the bus show the certificate that is in the files now, if clients would take it."""
    if plan.tls is None:
        log.info("nothing to read anew: the bus has no certificate")
        return
    try:
        names = certificate.names(plan.tls)
    except BadSetting as problem:
        log.error("the certificate stays as it was", problem=str(problem))
        return
    if plan.bus_name not in names:
        other = f"the new one is not for {plan.bus_name}: restart to use it"
        log.error("the certificate stays as it was", problem=other)
        return
    nats.reload()
    log.info("the certificate was read anew", names=names)


def _services(plan: Plan) -> "tuple[Service, ...]":
    keys = plan.directory / "keys"
    # The services reach the bus at an address of this machine, and know the certificate that it shows there.
    trust = ("--bus-ca", str(plan.tls.cert), "--bus-name", plan.bus_name) if plan.tls else ()
    bus = ("--bus", plan.bus_url, *trust)
    management = (
        *bus,
        *("--credentials", str(keys), "--data-dir", str(plan.directory / "management")),
        *("--api", str(plan.api), "--admin-token", str(plan.admin_token)),
    )
    interval = ("--dns-router-interval", plan.dns_router_interval) if plan.dns_router_interval else ()
    others = {"signal": (), "resolver": interval}
    return (
        Service("management", management, plan.logs),
        *(
            Service(name, (*bus, "--credentials", str(keys / f"{name}.nk"), *options), plan.logs)
            for name, options in others.items()
        ),
    )


class Service:
    """One of ours as a child process. What it says goes to <logs>/<name>.log."""

    def __init__(self, name: str, arguments: tuple[str, ...], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_KEPT_BYTES:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *die_with_parent(sys.executable, "-P", "-m", f"services.{self.name}", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """End it cleanly; killed when it does not within STOP_WITHIN_S."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            log.warning("killed, it did not stop in time", service=self.name)
            self._process.kill()
            await self._process.wait()

    def last_words(self) -> str:
        """The last line it wrote."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


async def _until_ready(watch: Watch, services: tuple[Service, ...]) -> None:
    """Return once it reads; raises NotStarted when a service ends before, or does not even say what is wrong."""
    ended = [asyncio.create_task(service.wait()) for service in services]
    serving, answers = asyncio.create_task(watch.serving.wait()), asyncio.create_task(watch.answers.wait())
    try:
        await asyncio.wait({answers, *ended}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not answers.done() and not any(end.done() for end in ended):
            raise NotStarted(services[0].name, f"no answer within {READY_WITHIN_S:g} s", services[0].log)
        await asyncio.wait({serving, *ended}, return_when=asyncio.FIRST_COMPLETED)
        for service, end in zip(services, ended, strict=True):
            if end.done():
                raise NotStarted(service.name, service.last_words(), service.log)
    finally:
        for task in (serving, answers, *ended):
            task.cancel()


async def _cure(plan: Plan, keys: Credentials, nats: NatsServer) -> None:
    """End a nats-server that a full disk has stopped once there is room; `_keep` starts it again."""
    ca = plan.tls.cert if plan.tls else None
    system = await connect(plan.bus_url, keys.system, "system", ca=ca, name=plan.bus_name)
    try:
        await start_again_with_room(plan.directory, lambda: write_error(system), nats.stop)
    finally:
        await system.close()


async def _keep(name: str, child: Child) -> None:
    """Start it again whenever it ends, sooner at first than later."""
    failures = 0
    while True:
        end_if_cancelled()
        began_at = time.monotonic()
        code = await child.wait()
        failures = 1 if time.monotonic() - began_at > LIMIT_S else failures + 1
        wait_s = delay_s(failures, random.random())
        log.error("ended, starting it again", service=name, code=code, in_s=round(wait_s, 1))
        await asyncio.sleep(wait_s)
        try:
            await child.start()
        except (BusUnavailable, Taken, OSError) as problem:
            log.error("cannot be started", service=name, problem=str(problem))
