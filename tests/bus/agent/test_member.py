"""A real agent as a member of its account: what it tells and hears, and what it does with no bus."""

import socket
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.lab.netns import address, connect
from services.agent.state import statefile
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.documents import RuleDoc
from shared.events.facts import ReportFact
from shared.events.signals import Beat, NameAnswer, Resolve, Resolved
from tests.bus.agent.lab import OVERLAY, AgentProcess, KernelState, Road, in_step
from tests.bus.agent.plane import ACCOUNT, ALL, Plane, lan, peer_doc, with_a_route
from tests.support.bus import eventually
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root


async def test_the_host_reports_and_beats(agent: AgentProcess, plane: Plane) -> None:
    beats: list[Beat] = []
    service = await plane.service("signal")
    await plane.listen(service, subjects.BEAT_ALL, Beat, beats)
    agent.start()
    await in_step(agent, plane)

    async def reported() -> bool:
        report = await plane.last("FACTS", subjects.report_fact(ACCOUNT, "me"), ReportFact)
        return report is not None and report.applied_revision == plane.revision and report.pending == 0

    await eventually(reported)
    await eventually(lambda: beats and not beats[0].leaving)
    await agent.stop()
    await eventually(lambda: beats[-1].leaving)


async def test_d6_a_routing_peer_tells_the_resolver_of_names_of_its_routes(agent: AgentProcess, plane: Plane) -> None:
    """This host reaches no DNS server, and says so before anybody takes it for silent."""
    names = replace(lan("me"), network="", domains=("inside.example",), permits=())
    await plane.write("p.me", "r1", names)
    service = await plane.service("resolver")
    heard: list[Resolved] = []
    await plane.listen(service, subjects.RESOLVED_ALL, Resolved, heard)
    agent.start()
    await in_step(agent, plane)
    request = Resolve(request="1", names=("foreign.example", "inside.example"))
    await service.publish(subjects.resolve(ACCOUNT, "me"), encode(request))
    await eventually(lambda: heard)
    assert heard == [Resolved(request="1", answers=(NameAnswer("inside.example", None, None),))]
    await agent.stop()


async def test_where_the_bus_was_outlives_the_agent(agent: AgentProcess, plane: Plane) -> None:
    agent.start("--bus", "nats://localhost:4222")
    await in_step(agent, plane)
    assert await agent.stop() == 0
    assert "127.0.0.1" in statefile.picture(agent.state).value.bus["localhost"]


async def test_a_host_boots_from_its_last_good_state_without_a_bus(
    agent: AgentProcess, road: Road, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    await agent.stop()
    await road.close()
    agent.start()
    await in_step(agent, plane)
    assert kernel.routes() == {"10.9.0.0/16"}
    assert kernel.addresses() == OVERLAY
    status = await agent.ask("status")
    assert not status["management"]["connected"]
    assert "127.0.0.1:4222" in status["management"]["error"]
    await road.open()
    await eventually(lambda: connected(agent), within_s=20.0)
    await agent.stop()


async def connected(agent: AgentProcess) -> bool:
    status = await agent.ask("status")
    return bool(status) and bool(status["management"]["connected"])


async def test_a_corrupt_last_good_state_is_set_aside_and_the_bus_is_asked(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.start()
    await in_step(agent, plane)
    await agent.stop()
    (agent.state / "lastgood").write_bytes(b"rubbish")
    agent.start()
    await in_step(agent, plane)
    assert kernel.addresses() == OVERLAY
    assert (agent.state / "lastgood.corrupt-1").read_bytes() == b"rubbish"
    assert agent.said().count("state file is corrupt") == 1
    await agent.stop()


async def test_c5_a_deleted_peer_loses_its_routes_and_peers(
    agent: AgentProcess, plane: Plane, kernel: KernelState, road: Road
) -> None:
    await with_a_route(plane)
    agent.start_impatient()
    await in_step(agent, plane)
    plane.peers.clear()
    await road.close()
    await road.open()
    await eventually(lambda: not kernel.routes(), within_s=30.0)

    async def alone() -> Any:  # the pass that took the routes away may still be going on
        status = await agent.ask("status")
        return status["peers"]["total"] == 0 and status

    status = await eventually(alone)
    assert "does not admit this peer" in status["management"]["error"]
    assert "drop comment" in kernel.table()
    await agent.stop()


async def test_two_agents_find_each_other(make_host: MakeHost, plane: Plane, tmp_path: Path) -> None:
    hosts = make_host(), make_host()
    connect(hosts[0], "eth0", hosts[1], "eth0")
    roads, agents = [], []
    await plane.forward_signals()
    await plane.settle()
    for number, host in enumerate(hosts, 1):
        address(host, "eth0", f"192.0.2.{number}/24")
        roads.append(Road(host, plane.url))
        await roads[-1].open()
        plane.accept(f"key-{number}", f"p{number}")
        await plane.place(f"p{number}", number)
        agents.append(AgentProcess(host, tmp_path, f"p{number}"))
        agents[-1].start(key=f"key-{number}")
    await eventually(lambda: len(plane.enrolments) == 2)
    for request in plane.enrolments:
        peer = plane.peers[request.bus_key]
        await plane.write(ALL, peer, peer_doc(peer, int(peer[1:]), key=request.wireguard_key))

    async def met() -> bool:
        statuses = [await agent.ask("status") for agent in agents]
        return all(status and status["peers"]["connected"] == 1 for status in statuses)

    await eventually(met, within_s=20.0)
    everybody = {"sources": ("all",), "destinations": ("all",), "source_peers": (), "destination_peers": ()}
    rule = RuleDoc(
        rule_id="r", policy_id="p", action="accept", protocol="all", bidirectional=True, ports=(), **everybody
    )
    await plane.write(ALL, "r", rule)
    for agent in agents:
        await in_step(agent, plane)
    for family, other in ((socket.AF_INET, "100.64.0.2"), (socket.AF_INET6, "fd00:64::2")):
        listening = hosts[1].call(socket.create_server, (other, 8080), family=family)
        hosts[0].call(socket.create_connection, (other, 8080), 3.0).close()
        listening.close()

    async def handshake() -> str:
        [peer] = (await agents[0].ask("status"))["peers"]["details"]
        return str(peer["lastWireguardHandshake"])

    before = await handshake()
    await agents[0].kill()
    agents[0].start(key=None)
    await eventually(met)
    assert await handshake() == before
    for agent in agents:
        assert await agent.stop() == 0
    for road in roads:
        await road.close()
