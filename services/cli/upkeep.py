"""`whimbrel server backup`, `restore`, `accept-loss`, `new-token`: what is done beside the control plane."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import nats.errors
from cyclopts import Parameter
from rich.console import Console

from services.cli.errors import USAGE, Failed
from services.management import upkeep
from services.management.settings import Settings
from shared import log
from shared.bus.embedded import certificate
from shared.bus.embedded.certificate import Certificate
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer, running_url
from shared.directory import held
from shared.errors import BadSetting, BusUnavailable, CorruptFile, Taken

Work = Callable[[Settings, Callable[[str], None]], Coroutine[Any, Any, None]]


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which control plane: a data directory of `whimbrel server`, or a bus and the seeds of management."""

    data_dir: Annotated[Path | None, Parameter(help="Data directory of `whimbrel server`, running or not.")] = None
    bus: Annotated[str, Parameter(help="Without --data-dir: address of the bus.")] = ""
    bus_ca: Annotated[Path | None, Parameter(help="PEM file of whom to trust, with TLS.")] = None
    bus_name: Annotated[str, Parameter(help="What the bus's certificate is for.")] = ""
    credentials: Annotated[Path | None, Parameter(help="Without --data-dir: folder of management's seeds.")] = None
    remembered: Annotated[Path | None, Parameter(help="As management has it; by default that of the seeds.")] = None
    stream_replicas: Annotated[int, Parameter(help="Copies of each stream, 3 on a cluster of three buses.")] = 1


def backup(file: Path, /, *, where: Where = Where()) -> None:
    """Copy everything that people asked for, and what hosts hold of it, into one file."""

    async def work(settings: Settings, tell: Callable[[str], None]) -> None:
        await upkeep.back_up(settings, file.absolute(), tell)
        tell(f"the backup is in {file}")

    _run(where, work)


def restore(file: Path, /, *, where: Where = Where()) -> None:
    """Give an empty bus what a backup holds: another machine's, or one of another topology."""
    if not file.is_file():
        raise Failed(f"{file}: there is no such file")
    _run(where, lambda settings, tell: upkeep.restore(settings, file.absolute(), tell), begins=True)


def accept_loss(*, where: Where = Where()) -> None:
    """Go on without the changes that the log has lost, once management has said that they are missing."""
    _run(where, upkeep.accept_loss)


def new_token(*, admin_token: Path | None = None, where: Where = Where()) -> None:
    """Give the account's owner a new token, and take the old ones away.

    Parameters
    ----------
    admin_token
        File for the token; admin.token in the data directory by default.
    """
    file = admin_token or (where.data_dir / "admin.token" if where.data_dir else None)
    if file is None:
        raise Failed("give --admin-token, the file for the token", USAGE)

    async def work(settings: Settings, tell: Callable[[str], None]) -> None:
        await upkeep.new_token(settings, file.absolute())
        tell(f"the owner's token is in {file}")

    _run(where, work)


def _run(where: Where, work: Work, *, begins: bool = False) -> None:
    """begins: in a data directory that is new, too."""
    console = Console(highlight=False, soft_wrap=True)
    log.set_up("error", "auto")

    async def running() -> None:
        async with _reached(where, begins) as settings:
            await work(settings, console.print)

    try:
        asyncio.run(running())
    except BadSetting as problem:
        raise Failed(str(problem), USAGE) from None
    except TimeoutError:
        raise Failed("the bus does not answer: start it, or correct --bus") from None
    except OSError as problem:
        raise Failed(f"{problem.filename or 'the backup'}: {problem.strerror or problem}") from None
    except (BusUnavailable, CorruptFile, Taken, nats.errors.Error, *upkeep.NotDone) as problem:
        raise Failed(str(problem) or type(problem).__name__) from None


@contextlib.asynccontextmanager
async def _reached(where: Where, begins: bool) -> AsyncIterator[Settings]:
    """Settings by which management reaches the bus, which is started for as long if need be."""
    if where.data_dir is None:
        if not where.bus or where.credentials is None:
            raise Failed("give --data-dir, or --bus and --credentials", USAGE)
        yield _settings(where, where.bus, where.credentials, where.bus_ca, where.bus_name)
        return
    directory = where.data_dir.resolve()
    keys = directory / "keys"
    _require_own(directory, keys, begins)
    with contextlib.ExitStack() as alone:
        try:
            alone.enter_context(held(directory))
        except Taken:  # by a server that runs
            yield _of_running(where, directory)
            return
        server = NatsServer(directory / "bus", credentials(keys))
        await server.start()
        try:
            yield _settings(where, server.url, keys, None, "")
        finally:
            await server.stop()


def _require_own(directory: Path, keys: Path, begins: bool) -> None:
    """A wrong name must make nothing, and files of another user would be in the server's way."""
    if directory.exists() and (owner := directory.stat().st_uid) != os.geteuid():
        raise Failed(f"{directory} belongs to user {owner}: run this as that user, as the server does")
    if not begins and not any(keys.glob("*.nk")):
        raise Failed(f"{directory} holds no account: name the data directory of a `whimbrel server`")


def _of_running(where: Where, directory: Path) -> Settings:
    url = running_url(directory / "bus")
    if url is None:
        raise Failed(f"{directory} is in use, and its bus does not run yet: try again")
    config = (directory / "bus/server.conf").read_text()
    files = dict(re.findall(r'^  (cert_file|key_file): "(.*)"$', config, re.M))
    if not files:
        return _settings(where, url, directory / "keys", None, "")
    shown = Certificate(cert=Path(files["cert_file"]), key=Path(files["key_file"]))
    return _settings(where, url, directory / "keys", shown.cert, certificate.names(shown)[0])


def _settings(where: Where, bus: str, keys: Path, ca: Path | None, name: str) -> Settings:
    return Settings(
        bus=bus,
        bus_ca=ca,
        bus_name=name,
        credentials=keys.absolute(),
        remembered=where.remembered,
        data_dir=keys,
        stream_replicas=where.stream_replicas,
    )
