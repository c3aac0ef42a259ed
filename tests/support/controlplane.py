"""A whole control plane as people start it: `whimbrel server` on loopback ports of its own."""

import asyncio
import signal
import sys
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from tests.support.ports import free_port

COMMAND = str(Path(sys.executable).with_name("whimbrel"))
START_LIMIT_S = 90.0
STOP_LIMIT_S = 40.0


class ControlPlane:
    """`async with ControlPlane(directory) as plane`: serving inside, ended by SIGTERM after."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "server"
        self.api_url = f"http://127.0.0.1:{free_port()}"
        self.bus_url = f"nats://127.0.0.1:{free_port()}"
        self.log = directory / "server.log"
        self.api = httpx.AsyncClient()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "ControlPlane":
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(COMMAND, "server", "--data-dir", str(self.data)),
                *("--api", self.api_url.removeprefix("http://"), "--bus", self.bus_url.removeprefix("nats://")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        async with asyncio.timeout(START_LIMIT_S):
            while not await self._serves():
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.1)
        token = (self.data / "admin.token").read_text().strip()
        self.api = httpx.AsyncClient(
            base_url=f"{self.api_url}/api", headers={"Authorization": f"Token {token}"}, timeout=30
        )
        return self

    async def _serves(self) -> bool:
        try:
            return (await self.api.get(f"{self.api_url}/healthz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.api.aclose()
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_LIMIT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def pid_of(self, module: str) -> int:
        """The process id of one service, by its module's name ("services.management")."""
        assert self._process is not None
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if module in child.cmdline():
                return child.pid
        raise LookupError(module)
