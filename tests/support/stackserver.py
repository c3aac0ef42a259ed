"""nats-server as the stack's containers run it: by `python -m deploy.nats.serve`."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from deploy.health import check
from shared import files
from shared.bus.embedded.config import Credentials, Node, render
from shared.bus.embedded.server import NatsServer
from tests.support.ports import free_port


class StackServer(NatsServer):
    """What it says is in `log`, which is not on its disk. A `kill` is one of the container's first process."""

    def __init__(self, directory: Path, keys: Credentials, log: Path, *, node: Node | None = None) -> None:
        super().__init__(directory, keys, port=free_port(), node=node)
        self._http_port = free_port()
        self.monitor = f"http://127.0.0.1:{self._http_port}"
        self._log = log

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "server.conf"
        if not config.exists():
            store = self._directory / "store"
            content = render(self._keys, store=store, host=self._host, port=self._port, node=self._node)
            files.write(config, content.encode())
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "deploy.nats.serve", f"--config={config}", f"--http-port={self._http_port}"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.url = await self._wait_for_port(self._process)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def child(self) -> psutil.Process | None:
        """nats-server itself, None while it is not running."""
        children = psutil.Process(self.pid).children() if self.pid else []
        return children[0] if children else None

    def said(self, event: str) -> int:
        """How often."""
        return self._log.read_text().count(event)

    async def health(self) -> tuple[bool, str]:
        """What the container's health check finds."""
        return await asyncio.to_thread(check, f"{self.monitor}/healthz")

    async def last_sequence(self, stream: str) -> int:
        """Of its own copy."""
        page = await asyncio.to_thread(self._page, "jsz?accounts=true&streams=true")
        details = [detail for account in page["account_details"] for detail in account["stream_detail"]]
        return int(next(detail["state"]["last_seq"] for detail in details if detail["name"] == stream))

    def _page(self, page: str) -> Any:
        with urlopen(f"{self.monitor}/{page}", timeout=4) as answer:
            return json.load(answer)
