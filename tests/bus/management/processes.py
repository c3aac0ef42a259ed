"""The control plane as a user runs it: `whimbrel server` and its children."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from shared.bus.embedded.die_with_parent import die_with_parent
from tests.support.bus import eventually

READY_WITHIN_S = 90.0
ANY_PORT = "127.0.0.1:0"


async def whimbrel(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that should end by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", *arguments), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode()


class Server:
    """One `whimbrel server` on ports that the system chooses, with further options.

    api, bus: what it said they are.
    """

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._options = options
        self.api = self.bus = ANY_PORT
        self.said = ""
        self.process: asyncio.subprocess.Process

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("server", "--data-dir", str(self.data_dir), "--api", self.api, "--bus", self.bus, *self._options)

    async def start(self) -> None:
        """Return when it has said that it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            *die_with_parent(sys.executable, "-m", "services.cli", *self.arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=(self.data_dir.parent / "server.err").open("ab"),
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_WITHIN_S):
            while "logs" not in self.said:
                line = await self.process.stdout.readline()
                assert line, (self.data_dir.parent / "server.err").read_text()
                self.said += line.decode()
        self.api, self.bus = re.findall(r"//(\S+)", self.said)

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 30)

    def children(self) -> dict[str, psutil.Process]:
        """Running children by name: nats-server, management, signal, resolver."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                command = child.cmdline() or ["ended"]
                name = next((part.removeprefix("services.") for part in command if part.startswith("services.")), "")
                found[name or Path(command[0]).name] = child
        return found

    async def get(self, path: str) -> httpx.Response:
        return await self._request("GET", path)

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self._request("POST", path, json=body)

    async def _request(self, method: str, path: str, json: object = None) -> httpx.Response:
        token = (self.data_dir / "admin.token").read_text().strip()
        async with httpx.AsyncClient(base_url=f"http://{self.api}", trust_env=False, timeout=20) as client:
            return await client.request(method, path, json=json, headers={"Authorization": f"Token {token}"})

    async def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await self.get("/healthz")).status_code == 200
        return False


@asynccontextmanager
async def serving(data_dir: Path, *options: str) -> AsyncIterator[Server]:
    server = Server(data_dir, *options)
    await server.start()
    children = list(server.children().values())
    try:
        yield server
    finally:
        if server.process.returncode is None:
            await server.terminate()
        await eventually(lambda: not any(map(alive, children)))


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kill(process: psutil.Process) -> None:
    """kill -9"""
    os.kill(process.pid, signal.SIGKILL)
