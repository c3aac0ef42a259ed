"""Two hosts with agents and a router between them, which also leads to the bus."""

import asyncio
import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from deploy.lab.netns import Namespace, address, connect
from shared.events.documents import RuleDoc
from tests.bus.agent.lab import BUS_PORT, AgentProcess, Road, in_step
from tests.bus.agent.plane import ALL, Plane, peer_doc
from tests.support.bus import eventually
from tests.support.netns import MakeHost

BUS = {"v4": "10.255.0.1", "v6": "2001:db8:ffff::1"}
ROUTER = {
    "left": {"v4": "192.0.2.254/24", "v6": "2001:db8:1::fe/64"},
    "left1": {"v4": "198.51.100.254/24", "v6": "2001:db8:2::fe/64"},
    "right": {"v4": "203.0.113.254/24", "v6": "2001:db8:3::fe/64"},
}
"""What the router has on its cables: left1 is a second one to the left host, whose end there has no address."""

LEFT = {"v4": "192.0.2.1/24", "v6": "2001:db8:1::1/64"}
RIGHT = {"v4": "203.0.113.1/24", "v6": "2001:db8:3::1/64"}
OVERLAY = {"left": "100.64.0.1", "right": "100.64.0.2"}
EVERY_S = 0.02


class Pair:
    """`left` and `right`, connected through their tunnel once `start` is done.

    The uplink of the left host is eth0, that of the right one the bridge br-lan, behind twenty addresses of another
    network. family: of everything outside the tunnel.
    """

    def __init__(self, make_host: MakeHost, plane: Plane, directory: Path, family: str) -> None:
        self.family = family
        self.left, self.right, self.router = make_host(), make_host(), make_host()
        self._plane = plane
        self._road = Road(self.router, plane.url, BUS[family])
        self.agents = {
            "left": AgentProcess(self.left, directory, "left"),
            "right": AgentProcess(self.right, directory, "right"),
        }

    def host(self, name: str) -> Namespace:
        return {"left": self.left, "right": self.right}[name]

    def ip(self, name: str, *words: str) -> None:
        """`ip` on a host, for the family of the pair."""
        self.host(name).ip("-6" if self.family == "v6" else "-4", *words)

    def add_address(self, name: str, interface: str, prefix: str) -> None:
        address(self.host(name), interface, prefix)

    def left_on_the_bus(self) -> str:
        """The address from which the left host connected to the bus last."""
        right = RIGHT[self.family].partition("/")[0]
        return [remote for remote in self._road.accepted if remote != right][-1]

    def via(self, cable: str) -> str:
        return ROUTER[cable][self.family].partition("/")[0]

    async def start(self) -> None:
        await asyncio.to_thread(self._cable)
        await self._road.open()
        await self._plane.forward_signals()
        await self._plane.settle()
        everybody = {"sources": ("all",), "destinations": ("all",), "source_peers": (), "destination_peers": ()}
        rule = RuleDoc(
            rule_id="r", policy_id="p", action="accept", protocol="all", bidirectional=True, ports=(), **everybody
        )
        await self._plane.write(ALL, "r", rule)
        bus = BUS[self.family]
        url = f"nats://[{bus}]:{BUS_PORT}" if ":" in bus else f"nats://{bus}:{BUS_PORT}"
        for number, (name, agent) in enumerate(self.agents.items(), 1):
            self._plane.accept(f"key-{name}", name)
            await self._plane.place(name, number)
            agent.start("--bus", url, key=f"key-{name}")
        await eventually(lambda: len(self._plane.enrolments) == 2, within_s=20.0)
        for request in self._plane.enrolments:
            peer = self._plane.peers[request.bus_key]
            await self._plane.write(ALL, peer, peer_doc(peer, 1 if peer == "left" else 2, key=request.wireguard_key))
        for agent in self.agents.values():
            await in_step(agent, self._plane)
        await eventually(self.connected, within_s=20.0)

    async def connected(self) -> bool:
        statuses = [await agent.ask("status") for agent in self.agents.values()]
        return all(
            status and status["peers"]["connected"] == 1 and status["management"]["connected"] for status in statuses
        )

    async def close(self) -> None:
        await self._road.close()

    def _cable(self) -> None:
        forwarding = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        subprocess.run(self.router.command(["sysctl", "-qw", *forwarding]), check=True)
        for prefix in BUS.values():
            address(self.router, "lo", f"{prefix}/{128 if ':' in prefix else 32}")
        connect(self.router, "spare", self.right, "eth1")
        for number in range(1, 21):
            address(self.right, "eth1", f"10.96.0.{number}/24")
        self.right.ip("link", "add", "br-lan", "type", "bridge")
        self.right.ip("link", "set", "br-lan", "up")
        for cable, host, interface in (
            ("left", self.left, "eth0"),
            ("left1", self.left, "eth1"),
            ("right", self.right, "lan1"),
        ):
            connect(self.router, cable, host, interface)
            address(self.router, cable, ROUTER[cable][self.family])
        self.right.ip("link", "set", "lan1", "master", "br-lan")
        address(self.left, "eth0", LEFT[self.family])
        address(self.right, "br-lan", RIGHT[self.family])
        self.ip("left", "route", "add", "default", "via", self.via("left"))
        self.ip("right", "route", "add", "default", "via", self.via("right"))


ECHO = """
import socket, sys
answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answering.bind((sys.argv[1], 7))
while True:
    data, sender = answering.recvfrom(2048)
    answering.sendto(data, sender)
"""
ASK = """
import socket, sys, threading, time
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.bind((sys.argv[1], 0))
def ask():
    while True:
        try:
            asking.sendto(b"." * 64, (sys.argv[2], 7))
        except OSError:
            pass
        time.sleep(float(sys.argv[3]))
threading.Thread(target=ask, daemon=True).start()
while True:
    try:
        asking.recv(2048)
        print(time.time(), flush=True)
    except ConnectionRefusedError:
        pass
"""


class Pings:
    """Answers that came, one each EVERY_S while nothing is wrong. gap_s: the longest time without one."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def _answered(self) -> list[float]:
        return [float(line) for line in self._log.read_text().split("\n")[:-1]]

    def since(self, moment: float) -> int:
        """Answers that came after this moment, in unix seconds."""
        return sum(at > moment for at in self._answered())

    @property
    def gap_s(self) -> float:
        answered = self._answered()
        return max(after - before for before, after in itertools.pairwise(answered))


@contextlib.asynccontextmanager
async def pinging(pair: Pair, name: str, log: Path) -> AsyncIterator[Pings]:
    """From this host to the other one's overlay address, until answers come again."""
    other = "right" if name == "left" else "left"
    with log.open("wb") as out:
        scripts = ((other, [ECHO, OVERLAY[other]]), (name, [ASK, OVERLAY[name], OVERLAY[other], str(EVERY_S)]))
        processes = [pair.host(host).spawn([sys.executable, "-c", *words], log=out) for host, words in scripts]
    pings = Pings(log)
    try:
        begun = time.time()
        await eventually(lambda: pings.since(begun) > 25, within_s=20.0)
        yield pings
        changed = time.time()
        await eventually(lambda: pings.since(changed) > 100, within_s=60.0)
    finally:
        for process in processes:
            process.kill()
            process.wait()
