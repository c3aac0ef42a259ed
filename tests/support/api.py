"""The API on a port of loopback, for clients that know nothing of this process."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from litestar import Litestar

from services.management.drain import drained
from services.management.serving import serve
from shared.net.listen import Listen, require_free


@contextmanager
def served(app: Litestar) -> Iterator[str]:
    """The address of the API, served in a thread by the server that runs in production."""
    listen = require_free(Listen("127.0.0.1", 0), "--api")
    loop = asyncio.new_event_loop()
    serving = loop.create_task(serve(drained(app), listen))
    thread = threading.Thread(target=_run, args=(loop, serving))
    thread.start()
    _wait_for(listen)
    yield f"http://{listen}"
    loop.call_soon_threadsafe(serving.cancel)
    thread.join()
    loop.close()


def _run(loop: asyncio.AbstractEventLoop, serving: "asyncio.Task[None]") -> None:
    asyncio.set_event_loop(loop)
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(serving)


def _wait_for(listen: Listen) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((listen.host, listen.port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return
