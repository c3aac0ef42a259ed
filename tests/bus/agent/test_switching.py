"""A client between two gateways, all real agents: what a switch does to its kernel, and what survives kill -9."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.lab.netns import address, connect
from services.agent.state import statefile
from shared.events.documents import Permit, RuleDoc
from tests.bus.agent.lab import AgentProcess, KernelState, Road, in_step
from tests.bus.agent.plane import ALL, Plane, lan, peer_doc
from tests.support.bus import eventually
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

GATEWAYS = ("gw1", "gw2")
BEHIND = "10.9.0.1"
EVERYONE = {"sources": ("all",), "source_peers": ()}


class Site:
    """client → gw1 with metric 1 and gw2 with metric 2, each on a cable of its own, and one LAN behind both."""

    def __init__(self, make_host: MakeHost, plane: Plane, directory: Path) -> None:
        self.hosts = {name: make_host() for name in ("client", *GATEWAYS)}
        self.behind = make_host()
        self.agents = {name: AgentProcess(host, directory, name) for name, host in self.hosts.items()}
        self.kernel = KernelState(self.hosts["client"])
        self._plane = plane
        self._roads = [Road(host, plane.url) for host in self.hosts.values()]

    @property
    def client(self) -> AgentProcess:
        return self.agents["client"]

    async def start(self) -> None:
        await asyncio.to_thread(self._cable)
        plane = self._plane
        await plane.forward_signals()
        await plane.settle()
        for number, (name, road) in enumerate(zip(self.hosts, self._roads, strict=True), 1):
            await road.open()
            plane.accept(f"key-{name}", name)
            await plane.place(name, number)
            self.agents[name].start(key=f"key-{name}")
        await eventually(lambda: len(plane.enrolments) == 3, within_s=30.0)
        for request in plane.enrolments:
            peer = plane.peers[request.bus_key]
            number = list(self.hosts).index(peer) + 1
            await plane.write(ALL, peer, peer_doc(peer, number, key=request.wireguard_key))
        rule = {"policy_id": "p", "action": "accept", "protocol": "all", "bidirectional": True, "ports": ()}
        to_all = {"destinations": ("all",), "destination_peers": ()}
        await plane.write(ALL, "r", RuleDoc(rule_id="r", **rule, **EVERYONE, **to_all))  # type: ignore[arg-type]
        permit = Permit(rule_id="", action="accept", protocol="all", ports=(), **EVERYONE)
        for metric, name in enumerate(GATEWAYS, 1):
            route = replace(lan(name), route_id=f"r-{name}", metric=metric, keep_route=False)
            await plane.write(f"p.{name}", route.route_id, replace(route, permits=(permit,)))
            await plane.write(ALL, route.route_id, route)
        await plane.settle()  # the newest document is one that everybody has
        for agent in self.agents.values():
            await in_step(agent, plane, within_s=30.0)
        await eventually(lambda: self.carried_by("gw1"), within_s=30.0)

    def cut(self, name: str) -> None:
        self.hosts[name].ip("link", "set", "eth0", "down")

    def mend(self, name: str) -> None:
        self.hosts[name].ip("link", "set", "eth0", "up")

    async def network(self) -> dict[str, Any]:
        shown: list[dict[str, Any]] = await self.client.ask("networks") or [{}]
        return shown[0]

    async def carried_by(self, name: str) -> bool:
        return ((await self.network()).get("carriedBy") or {}).get("peerId") == name

    async def answers(self, name: str) -> bool:
        """Whether the client has heard the gateway answer a probe."""
        return any(one["peerId"] == name and one["latency"] for one in (await self.network())["routingPeers"])

    async def history(self) -> list[tuple[str, str, str]]:
        told = await self.client.ask("history")
        return [(one["from"]["peerId"], one["to"]["peerId"], one["cause"]) for one in told]

    async def close(self) -> None:
        for agent in self.agents.values():
            if agent.running():
                await agent.stop()
        for road in self._roads:
            await road.close()

    def _cable(self) -> None:
        self.behind.ip("link", "add", "br0", "type", "bridge")
        self.behind.ip("link", "set", "br0", "up")
        address(self.behind, "br0", f"{BEHIND}/16")
        for number, name in enumerate(GATEWAYS, 1):
            connect(self.hosts["client"], f"eth{number}", self.hosts[name], "eth0")
            address(self.hosts["client"], f"eth{number}", f"192.0.{number}.1/24")
            address(self.hosts[name], "eth0", f"192.0.{number}.2/24")
            connect(self.behind, f"eth{number}", self.hosts[name], "lan0")
            address(self.hosts[name], "lan0", f"10.9.1.{number}/16")
            self.behind.ip("link", "set", f"eth{number}", "master", "br0")


@pytest.fixture
async def site(make_host: MakeHost, plane: Plane, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(make_host, plane, tmp_path)
    await site.start()
    yield site
    await site.close()


@pytest.fixture
async def sending(site: Site) -> AsyncIterator[None]:
    """Packets to the network all the while."""
    words = f"while :; do echo >/dev/udp/{BEHIND}/9; sleep 0.1; done"
    sender = site.hosts["client"].spawn(["bash", "-c", words], log=subprocess.DEVNULL)
    yield
    sender.terminate()
    sender.wait()


def reach(site: Site) -> None:
    """A connection of the client to the host behind the gateways."""
    listening = site.behind.call(socket.create_server, (BEHIND, 8080))
    site.hosts["client"].call(socket.create_connection, (BEHIND, 8080), 5.0).close()
    listening.close()


@pytest.mark.usefixtures("sending")
@pytest.mark.timeout(180)
async def test_a_switch_moves_no_route_and_a_client_that_is_killed_keeps_whom_it_had_g2_g4_g5(site: Site) -> None:
    for name in GATEWAYS:
        await eventually(lambda name=name: site.answers(name), within_s=30.0)  # type: ignore[misc]
    before = await site.history()  # gw2 may have been there first
    with site.kernel.watch() as heard:
        site.cut("gw1")
        await eventually(lambda: site.carried_by("gw2"), within_s=20.0)
        await asyncio.to_thread(reach, site)
        assert await site.history() == [*before, ("gw1", "gw2", "down")]
        await eventually(lambda: [one.now for one in statefile.switches(site.client.state).value][-1:] == ["gw2"])

        await site.client.kill()
        site.client.start(key=None)
        await eventually(lambda: site.carried_by("gw2"), within_s=20.0)
        await eventually(lambda: site.answers("gw2"), within_s=20.0)
        shown = await site.network()
        assert shown["choice"] == "the one before does not answer"
        assert await site.history() == [*before, ("gw1", "gw2", "down")]

        site.mend("gw1")
        await eventually(lambda: site.carried_by("gw1"), within_s=60.0)
        assert await site.history() == [*before, ("gw1", "gw2", "down"), ("gw2", "gw1", "metric")]
        await asyncio.to_thread(reach, site)
    assert "10.9.0.0/16" not in heard.read_text()
