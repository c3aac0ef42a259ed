"""An agent process on a host of its own, and a way from there to the bus of the test."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.lab.netns import CommandFailed, Namespace
from tests.bus.agent.plane import Plane
from tests.support.bus import LIMIT_S, eventually

COMMAND = str(Path(sys.executable).with_name("whimbrel"))
BUS_PORT = 4222
ANSWER_LIMIT = 64 << 20
KEY = "0CD76A3C-7A8B-4F0E-9C3B-1A2B3C4D5E6F"

OVERLAY = {"100.64.0.1/16", "fd00:64::1/64"}
RULES = {("-4", 105), ("-4", 110), ("-6", 105), ("-6", 110)}
"""What wt0's addresses and our rules are on the host of peer "me", as KernelState shows them."""


class Road:
    """Makes the bus reachable at port 4222 of a host's address; `close` makes it unreachable.

    accepted: the addresses that connections came from, in order.
    """

    def __init__(self, host: Namespace, url: str, address: str = "127.0.0.1") -> None:
        self._host = host
        self._address = address
        self.accepted: list[str] = []
        self._port = int(url.rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listener = await asyncio.to_thread(
            self._host.call, socket.create_server, (self._address, BUS_PORT), family=family
        )
        self._server = await asyncio.start_server(self._pass, sock=listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for passing in list(self._passing):
            passing.cancel()
        if self._passing:
            await asyncio.wait(self._passing)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        self.accepted.append(writer.get_extra_info("peername")[0])
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            ways = {asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                far_writer.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._passing.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


class AgentProcess:
    """`whimbrel up` on a host. state: its directory. log: what it printed."""

    def __init__(self, host: Namespace, directory: Path, name: str = "agent") -> None:
        self.host = host
        self.state = directory / name / "state"
        self.socket = directory / name / "agent.sock"
        self.log = directory / name / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.log.parent.mkdir(parents=True, exist_ok=True)

    def start(self, *options: str, key: str | None = KEY, under: tuple[str, ...] = ()) -> None:
        """under: a command that starts it."""
        environment = {"WHIMBREL_BUS": f"nats://127.0.0.1:{BUS_PORT}"}
        if key:
            environment["WHIMBREL_SETUP_KEY"] = key
        words = [*under, COMMAND, "up", "--state-dir", str(self.state), "--socket", str(self.socket), *options]
        with self.log.open("ab") as log:
            self._process = self.host.spawn(words, log=log, environment=environment)

    def start_impatient(self, key: str = KEY) -> None:
        """Start it so that it believes a refusal after one second."""
        impatient = "from services.agent.bus.feed import Feed; from services.agent.__main__ import main; "
        impatient += "Feed.__init__.__kwdefaults__['banished_after_s'] = 1.0; main()"
        environment = {
            "WHIMBREL_BUS": f"nats://127.0.0.1:{BUS_PORT}",
            "WHIMBREL_STATE_DIR": str(self.state),
            "WHIMBREL_SOCKET": str(self.socket),
            "WHIMBREL_SETUP_KEY": key,
        }
        with self.log.open("ab") as log:
            self._process = self.host.spawn([sys.executable, "-c", impatient], log=log, environment=environment)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def ended(self, within_s: float = LIMIT_S) -> int:
        """The exit code."""
        process = self._process
        assert process is not None
        await eventually(lambda: process.poll() is not None, within_s=within_s)
        assert process.returncode is not None
        return process.returncode

    async def stop(self) -> int:
        """End it by SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End it as a crash would; a wireguard-go of its own goes on."""
        os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def ask(self, what: str, **options: Any) -> Any:
        """The agent's answer on its socket; None while there is none."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket, limit=ANSWER_LIMIT)
        except OSError:
            return None
        try:
            writer.write(json.dumps({"do": what, **options}).encode() + b"\n")
            line = await reader.readline()
            return json.loads(line)["result"] if line else None
        finally:
            writer.close()

    async def applied(self, revision: int) -> bool:
        """Whether the kernel holds what the documents up to this revision say, read back."""
        status = await self.ask("status")
        return bool(status) and status["appliedRevision"] >= revision and not status["pending"]

    def said(self) -> str:
        return self.log.read_text()


async def in_step(agent: AgentProcess, plane: Plane, *, within_s: float = LIMIT_S) -> None:
    """Come back when the agent has applied all that was written."""
    await eventually(lambda: agent.applied(plane.revision), within_s=within_s)


async def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """What a command says; the bus and the road to it go on meanwhile."""
    return await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=60)


async def whimbrel(agent: AgentProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """A command that asks the agent."""
    return await run([COMMAND, *words, "--socket", str(agent.socket)])


class KernelState:
    """What the kernel of a host holds of ours, in tools' own words."""

    def __init__(self, host: Namespace) -> None:
        self._host = host

    def run(self, *words: str) -> str:
        done = subprocess.run(self._host.command(words), capture_output=True, text=True, timeout=20, check=False)
        return done.stdout

    @contextlib.contextmanager
    def watch(self) -> Iterator[Path]:
        """What `ip monitor` says meanwhile of links, addresses, routes and rules."""
        heard = self._host.wireguard / "monitor.log"
        with heard.open("wb") as log:
            watching = self._host.spawn(["ip", "monitor", "link", "address", "route", "rule"], log=log)
        try:
            yield heard
        finally:
            watching.terminate()
            watching.wait()

    def link(self) -> bool:
        return "wt0" in self._host.ip("-br", "link")

    def addresses(self) -> set[str]:
        try:
            listed = json.loads(self._host.ip("-j", "address", "show", "dev", "wt0"))
        except CommandFailed:
            return set()
        found = (one for link in listed for one in link["addr_info"] if one["scope"] == "global")
        return {f"{one['local']}/{one['prefixlen']}" for one in found}

    def routes(self) -> set[str]:
        with contextlib.suppress(CommandFailed):
            listed = [
                json.loads(self._host.ip("-j", family, "route", "show", "table", "7120") or "[]")
                for family in ("-4", "-6")
            ]
            return {one["dst"] for family in listed for one in family}
        return set()

    def rules(self) -> set[tuple[str, int]]:
        return {
            (family, one["priority"])
            for family in ("-4", "-6")
            for one in json.loads(self._host.ip("-j", family, "rule") or "[]")
            if one["priority"] in (105, 110, 115)
        }

    def table(self) -> str:
        return self.run("nft", "list", "table", "inet", "whimbrel")

    def sysctls(self) -> dict[str, str]:
        """Every setting that the agent may touch, wt0's own left out."""
        lines = self.run("sysctl", "-a", "--pattern", r"ip_forward$|all.forwarding|src_valid|rp_filter|accept_ra$")
        pairs = (line.partition(" = ") for line in lines.splitlines() if "wt0" not in line)
        return {name: value for name, _, value in pairs}

    def bare(self) -> bool:
        """Whether nothing of an agent is there."""
        return not self.link() and not self.rules() and not self.routes() and not self.table()

    def originals(self, agent: AgentProcess) -> bytes:
        """What the agent keeps of settings it changed."""
        return (agent.state / "sysctls").read_bytes()

    def sockets(self) -> list[str]:
        return sorted(path.name for path in self._host.wireguard.iterdir()) if self._host.wireguard.exists() else []
