"""What nats-server says of its own streams, and starting it again after a full disk."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from shared.bus.streams import ANSWER_WITHIN_S
from shared.disk import has_room
from shared.events import subjects
from shared.events.logins import BUS_ACCOUNT
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 2.0
ROOM_BYTES = 8 * 1024 * 1024
"""Less is used up again before anybody has looked. A block of a stream has 8 MiB at most."""

_CANNOT = 503
"""Status of a server that has the streams and cannot write; 404 before they are made."""

log = structlog.get_logger()


class _Server(msgspec.Struct, frozen=True):
    cluster: str = ""


class _Health(msgspec.Struct, frozen=True):
    status_code: int = 0
    error: str = ""


class _HealthAnswer(msgspec.Struct, frozen=True):
    """What a server says of itself on HEALTHZ."""

    server: _Server
    data: _Health = _Health()


async def write_error(system: Client, stream: str = "") -> str | None:
    """What a server that is alone says is wrong with the stream, or with any; "" for nothing, None for no answer.

    One of a cluster that cannot write hands its leadership over, and its word is not the others'.
    system: a connection to the system account.
    """
    options = msgspec.json.encode({"account": BUS_ACCOUNT, **({"stream": stream} if stream else {})})
    try:
        answer = await system.request(subjects.SERVER_HEALTH, options, timeout=ANSWER_WITHIN_S)
        health = msgspec.json.decode(answer.data, type=_HealthAnswer)
    except (nats.errors.Error, msgspec.DecodeError):
        return None
    if health.server.cluster or health.data.status_code != _CANNOT:
        return ""
    return health.data.error


async def start_again_with_room(
    directory: Path, problem: Callable[[], Awaitable[str | None]], start_again: Callable[[], Awaitable[None]]
) -> None:
    """When there is a problem, call `start_again` once the disk of `directory` has room, until cancelled.

    A stream that met a full disk takes nothing more until its server starts anew, however much room there is. What one
    start did not cure is no matter of room, and is left alone.
    """
    told = tried = False
    while True:
        end_if_cancelled()
        await asyncio.sleep(LOOK_EVERY_S)
        said = await problem()
        if said == "":
            told = tried = False
        if not said:
            continue
        if not told:
            told = True
            log.error("the bus cannot write: make room on its disk", directory=str(directory), problem=said)
        if not has_room(directory, ROOM_BYTES):
            tried = False
        elif not tried:
            tried = True
            log.warning("the bus starts again: its disk has room")
            await start_again()
