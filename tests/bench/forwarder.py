"""Names at a gateway: cached answers a second beside a loop that sends each packet back, and what a busy agent costs.

The forwarder's process, the agent's part that permits, a nameserver, and the client are real, on loopback; the firewall
takes whatever it is given. Busy is an agent whose loop computes 50 ms of every 60 ms.
"""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess

import psutil
from msgspec.structs import replace

from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.core.documents import Documents
from services.agent.core.ha.flows import Flow
from services.agent.core.kernel import FORWARDER_PORT, Link, Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.drivers import forwarder_process
from services.agent.forwarding import Forwards
from services.agent.situation import PassResult, Situation
from shared.events.documents import PeerDoc
from tests.bench.figures import Figure, figure
from tests.support.forwarding import query
from tests.unit.agent import make

ME, NAMESERVER = "127.0.0.22", "127.0.0.53"
OUTSTANDING = 64
FLOOD_S, ECHO_PORT = 3.0, 22055
COLD = 500
BUSY_S, IDLE_S = 0.05, 0.01


class Firewall:
    """Takes addresses, and tracks no connection."""

    emptied = 0

    async def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        return None

    async def filled(self, ruleset: Ruleset) -> Mapping[str, Mapping[str, float]]:
        return {}

    def begun_by(self, addresses: Iterable[str]) -> list[Flow]:
        return []

    def tcp(self) -> list[Flow]:
        return []

    def forget(self, flows: Iterable[Flow]) -> int:
        return 0


def measure() -> list[Figure]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
        return asyncio.run(_measured(client))


async def _measured(client: ProcessPoolExecutor) -> list[Figure]:
    loop = asyncio.get_running_loop()

    async def run(work: Callable[..., list[float]], *about: object) -> list[float]:
        return await loop.run_in_executor(client, work, *about)

    echo: SpawnProcess = get_context("spawn").Process(target=send_back, daemon=True)
    echo.start()
    await run(waited_for, ECHO_PORT)
    rates = await run(flooded, ECHO_PORT)
    echo.kill()
    found = [figure("reference: packets sent back, one loop", "1/s", rates)]
    async with serving() as pid:
        await run(waited_for, FORWARDER_PORT)
        found.append(figure("cached answers", "1/s", await run(flooded, FORWARDER_PORT)))
        for title, busy in (("idle agent", False), ("busy agent", True)):
            hog = asyncio.create_task(hogs()) if busy else None
            found.append(figure(f"a cached answer, {title}", "ms", await run(asked_in_turn, ["db"] * 2000)))
            names = [f"{title[:4]}{number}" for number in range(COLD)]
            found.append(figure(f"a fresh name, {title}", "ms", await run(asked_in_turn, names)))
            if hog is not None:
                hog.cancel()
        memory = psutil.Process(pid).memory_full_info()
        found.append(figure("resident memory of the forwarder", "MB", [memory.rss / 1e6]))
        found.append(figure("of it its own", "MB", [memory.uss / 1e6]))
    return found


async def hogs() -> None:
    """An agent that computes most of the time."""
    while True:
        until = time.monotonic() + BUSY_S
        while time.monotonic() < until:
            sum(range(1000))
        await asyncio.sleep(IDLE_S)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """A gateway with a name on this machine's loopback; gives the process."""
    situation = Situation(make.local())
    pids: list[int] = []

    def start() -> "tuple[socket.socket, subprocess.Popen[bytes]]":
        connection, child = forwarder_process.start()
        pids.append(child.pid)
        return connection, child

    firewall = Firewall()
    forwards = Forwards(situation, firewall, firewall, start)
    situation.host_dns.set(ResolvConf(servers=(NAMESERVER,)))
    there = documents()
    wanted = desired(there, make.local())
    link = Link(name="lo", mtu=65536, up=True, addresses=frozenset({f"{ME}/8"}))
    nameserver = get_context("spawn").Process(target=answer_all, daemon=True)
    nameserver.start()
    running = asyncio.create_task(forwards.run())
    try:
        local = make.local()
        passed = PassResult(documents=there, local=local, desired=replace(wanted, links={"lo": link}))
        situation.passed.set(passed)
        while not situation.forwarder.value.state.listening:
            await asyncio.sleep(0.05)
        yield pids[0]
    finally:
        nameserver.kill()
        running.cancel()
        await asyncio.wait([running])


def documents() -> Documents:
    client: PeerDoc = make.peer("client", "office", v4="127.0.0.1")
    route = make.served("lan", by="me", domains=("*.corp.example",), distribution=("office",))
    return make.documents(make.me("me", v4=ME), [client], routes=[route])


def send_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((ME, ECHO_PORT))
        while True:
            packet, address = here.recvfrom(4096)
            here.sendto(packet, address)


def answer_all() -> None:
    """A nameserver that gives one address to every name, as fast as Python can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((NAMESERVER, 53))
        record = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\x0a\x09\0\1"
        while True:
            packet, address = here.recvfrom(4096)
            end = packet.index(b"\0", 12) + 5
            is_v4 = packet[end - 4 : end - 2] == b"\0\1"
            head = packet[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_v4 else b"\0\0") + b"\0\0\0\0"
            here.sendto(head + packet[12:end] + (record if is_v4 else b""), address)


def _client(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.connect((ME, port))
    made.settimeout(5.0)
    return made


def waited_for(port: int) -> list[float]:
    """Come back once somebody answers there."""
    with _client(port) as asking:
        asking.settimeout(0.2)
        while True:
            try:
                asking.send(query("db.corp.example"))
                asking.recv(4096)
                return []
            except OSError:
                time.sleep(0.05)


def flooded(port: int) -> list[float]:
    """Answers a second, in half seconds, with OUTSTANDING questions under way at any time."""
    packet = query("db.corp.example")
    rates, began = [], time.monotonic()
    with _client(port) as asking:
        for _ in range(OUTSTANDING):
            asking.send(packet)
        while time.monotonic() - began < FLOOD_S:
            since, count = time.monotonic(), 0
            while count % 64 or time.monotonic() - since < 0.5:
                asking.recv(4096)
                asking.send(packet)
                count += 1
            rates.append(count / (time.monotonic() - since))
    return rates


def asked_in_turn(names: list[str]) -> list[float]:
    """Milliseconds until each name was answered, one after the other."""
    took = []
    with _client(FORWARDER_PORT) as asking:
        for name in names:
            packet = query(f"{name}.corp.example")
            began = time.perf_counter()
            asking.send(packet)
            asking.recv(4096)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.001)
    return took
