"""`python -m deploy.nats.serve`: a bus of the stack, which takes changes again by itself once a full disk has room.

Runs nats-server as a child that says what it says where this one does, gets every signal that this one gets, and whose
end and exit code are this one's: but for one start, see shared.bus.health.start_again_with_room.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import httpx
import msgspec

from shared import log
from shared.bus.embedded.die_with_parent import die_with_parent
from shared.bus.embedded.server import STOP_TIMEOUT_S, executable
from shared.bus.health import start_again_with_room
from shared.tasks import end_if_cancelled

STOPS = (signal.SIGTERM, signal.SIGINT)
HANDED_ON = (*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What nats-server understands: stop, read the configuration anew, open the log anew, lame duck."""

ANSWER_WITHIN_S = 4.0

_WELL, _CANNOT = 200, 503
"""Statuses of /healthz once the server has started; before that it has others."""


class _Cluster(msgspec.Struct, frozen=True):
    name: str = ""


class _Server(msgspec.Struct, frozen=True):
    """The part of /varz that matters here: the cluster of a server that is alone has no name."""

    cluster: _Cluster = _Cluster()


class _Health(msgspec.Struct, frozen=True):
    error: str = ""


class Server:
    """nats-server as a child. It ends with this process."""

    def __init__(self, *arguments: str) -> None:
        self._command = die_with_parent(str(executable()), *arguments)
        self._process: asyncio.subprocess.Process | None = None
        self._again = False
        self._stopping = False

    async def run(self) -> int:
        """Run it; gives its exit code once it has ended and is not to start again."""
        while True:
            end_if_cancelled()
            self._again = False
            self._process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
            if self._stopping:  # meanwhile
                self._process.terminate()
            code = await self._process.wait()
            if self._stopping or not self._again:
                return code

    def send(self, number: signal.Signals) -> None:
        """Hand the signal on."""
        self._stopping = self._stopping or number in STOPS
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def start_again(self) -> None:
        """End it cleanly, killed when it does not within STOP_TIMEOUT_S, and have `run` start another."""
        if self._process is None or self._process.returncode is not None:
            return
        self._again = True
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()


async def write_error(monitor: httpx.AsyncClient) -> str | None:
    """What the server says is wrong with its streams; "" for nothing, None for no answer or not yet.

    A member of a cluster gives up all its streams when one has no room. Whatever else it finds wrong with them, it is
    waiting for the others.
    """
    with contextlib.suppress(httpx.TransportError, msgspec.DecodeError):
        server = msgspec.json.decode((await monitor.get("/varz")).content, type=_Server)
        answer = await monitor.get("/healthz", params={"js-enabled-only": "true"} if server.cluster.name else {})
        if answer.status_code == _WELL:
            return ""
        if answer.status_code == _CANNOT:
            return msgspec.json.decode(answer.content, type=_Health).error
    return None


async def serve(config: Path, http_port: int) -> int:
    """Run the server of `config`, whose streams are on the disk of that file, until it ends; gives its exit code."""
    server = Server("--config", str(config), "--http_port", str(http_port))
    for number in HANDED_ON:
        asyncio.get_running_loop().add_signal_handler(number, server.send, number)
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{http_port}", trust_env=False, timeout=ANSWER_WITHIN_S
        ) as monitor,
        asyncio.TaskGroup() as tasks,
    ):
        curing = tasks.create_task(
            start_again_with_room(config.parent, lambda: write_error(monitor), server.start_again)
        )
        code = await server.run()
        curing.cancel()
    return code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats.serve", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True, help="configuration, in the folder of the streams")
    parser.add_argument("--http-port", type=int, default=8222, help="port of /healthz and of the server's figures")
    given = parser.parse_args()
    log.set_up()
    code = asyncio.run(serve(given.config, given.http_port))
    return code if code >= 0 else 128 - code  # as a shell says which signal ended it


if __name__ == "__main__":
    sys.exit(main())
