"""Running a service as a process: from its settings to its exit code."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop

from shared import metrics
from shared.disk import NO_ROOM
from shared.errors import BadSetting, BusUnavailable, CorruptFile, NoRoom, NotStarted, Taken

STOPPED_BY = (signal.SIGTERM, signal.SIGINT)
"""A clean stop; the exit code is 0."""

REFUSED = 1
"""Exit code when the service cannot start now; one line on standard error says why."""

MISTAKEN = 2
"""Exit code for an option that makes no sense, whoever finds that out; to start it again is of no use."""

STOP_TIMEOUT_S = 5.0

MOST_FILES = 65_536
"""Open at once, connections too, if the system grants as many to who asks: 1,024 without asking is usual."""

log = structlog.get_logger()


def run(name: str, service: Coroutine[Any, Any, None], *, stop_within_s: float = STOP_TIMEOUT_S) -> int:
    """Run the service until SIGTERM or SIGINT; gives the exit code."""
    _prepare()
    metrics.introduce(name)
    try:
        uvloop.run(_until_stopped(name, service, stop_within_s))
    except (FileNotFoundError, PermissionError) as problem:
        return _refused(f"whimbrel {name}: {problem.filename}: {problem.strerror}")
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        return _refused(f"whimbrel {name}: {problem.filename or 'a file'}: {problem.strerror}: make room on its disk")
    except BadSetting as problem:
        return _refused(f"whimbrel {name}: {problem}", MISTAKEN)
    except (BusUnavailable, CorruptFile, NoRoom, NotStarted, Taken) as problem:
        return _refused(f"whimbrel {name}: {problem}")
    return 0


def _prepare() -> None:
    """What it and its children make is nobody else's to read, whoever connects does not use up its files, and what was
    imported, which stays as long as the process, is not searched for garbage each time: 20 ms."""
    gc.freeze()
    os.umask(0o077)  # the directory may be one that others can enter
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if granted < min(most, MOST_FILES):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MOST_FILES), most))


def _refused(line: str, code: int = REFUSED) -> int:
    print(line, file=sys.stderr)
    return code


async def _until_stopped(name: str, service: Coroutine[Any, Any, None], stop_within_s: float) -> None:
    running = asyncio.ensure_future(service)
    stopped = asyncio.Event()
    for number in STOPPED_BY:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stop = asyncio.ensure_future(stopped.wait())
    log.info("starting", service=name)
    await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not running.done():
        running.cancel()
        # What does not end in time is ended task by task on the way out of the loop.
        await asyncio.wait({running}, timeout=stop_within_s)
        log.info("stopped", service=name)
    if running.done() and not running.cancelled():
        running.result()
