"""What a routing peer cannot carry is told to the control plane at once, and shown on the host (decision G3)."""

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from deploy.lab.netns import Namespace, address, connect, run
from shared.events import subjects
from shared.events.documents import Probe, Withdrawn
from shared.events.facts import CandidacyFact, ReportFact
from tests.bus.agent.lab import AgentProcess, in_step, whimbrel
from tests.bus.agent.plane import ACCOUNT, Plane
from tests.support.bus import eventually
from tests.support.netns import MakeHost
from tests.unit.agent import make

pytestmark = pytest.mark.root

NO_WAY = "the kernel has no way there (Network is unreachable); it was by eth1"


@pytest.fixture
def lan(host: Namespace, make_host: MakeHost) -> Namespace:
    """A host in 10.9.0.0/24, into which the agent's host has its leg eth1."""
    other = make_host()
    connect(host, "eth1", other, "eth0")
    address(host, "eth1", "10.9.0.1/24")
    address(other, "eth0", "10.9.0.2/24")
    return other


class Facts:
    """What the agent said of its candidacy."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def last(self) -> CandidacyFact | None:
        return await self._plane.last("FACTS", subjects.candidacy_fact(ACCOUNT, "me"), CandidacyFact)

    async def say(self, *withdrawn: tuple[str, str]) -> CandidacyFact:
        """The fact that says it."""
        found: list[CandidacyFact] = []

        async def is_said() -> bool:
            fact = await self.last()
            found.extend([fact] if fact else [])
            return fact is not None and fact.withdrawn == tuple(Withdrawn(*one) for one in withdrawn)

        await eventually(is_said)
        return found[-1]


async def serving(agent: AgentProcess, plane: Plane) -> Facts:
    await plane.write("p.me", "r1", make.served("r1", "10.9.0.0/24"))
    agent.start()
    await in_step(agent, plane)
    return Facts(plane)


async def test_a_leg_that_goes_down_is_a_fact_and_one_more_when_it_is_up_again(
    agent: AgentProcess, plane: Plane, lan: Namespace
) -> None:
    facts = await serving(agent, plane)
    first = await facts.say()
    before = time.time()
    agent.host.ip("link", "set", "eth1", "down")
    told = await facts.say(("r1", NO_WAY))
    print(f"\nfrom the command to the fact: {1000 * (told.at - before):.0f} ms")
    assert (told.peer_id, told.epoch, told.draining, told.holds) == ("me", first.epoch, False, ())
    assert told.number > first.number
    status = await agent.ask("status")
    assert [(one["network"], one["carried"], one["reason"]) for one in status["served"]] == [
        ("10.9.0.0/24", False, NO_WAY)
    ]
    assert f"Not carried 10.9.0.0/24: {NO_WAY}" in " ".join((await whimbrel(agent, "status")).stdout.split())

    async def reported() -> bool:
        report = await plane.last("FACTS", subjects.report_fact(ACCOUNT, "me"), ReportFact)
        return report is not None and [(one.state, one.error) for one in report.routes] == [("failed", NO_WAY)]

    await eventually(reported)
    agent.host.ip("link", "set", "eth1", "up")
    assert (await facts.say()).number > told.number
    await agent.stop()


async def test_a_new_session_hears_what_there_is_and_a_new_run_has_a_newer_epoch(
    agent: AgentProcess, plane: Plane, lan: Namespace
) -> None:
    facts = await serving(agent, plane)
    first = await facts.say()
    await plane.kill()
    agent.host.ip("link", "set", "eth1", "down")
    await plane.revive()
    told = await facts.say(("r1", NO_WAY))
    assert (told.epoch, told.number > first.number) == (first.epoch, True)
    await agent.kill()
    agent.start()
    newer: list[CandidacyFact] = []

    async def is_newer() -> bool:
        fact = await facts.last()
        newer.extend([fact] if fact and fact.epoch > first.epoch else [])
        return bool(newer)

    await eventually(is_newer)
    assert newer[0].withdrawn == (Withdrawn("r1", NO_WAY),)
    await agent.stop()


async def test_a_host_that_serves_nothing_says_nothing(agent: AgentProcess, plane: Plane, lan: Namespace) -> None:
    agent.start()
    await in_step(agent, plane)
    facts = Facts(plane)
    await plane.write("p.me", "r1", make.served("r1", "10.9.0.0/24"))
    assert (await facts.say()).number == 1
    await agent.stop()


async def test_a_gateway_whose_wireguard_is_killed_and_cannot_be_started_says_so_until_it_has_one_again(
    agent: AgentProcess, plane: Plane, lan: Namespace
) -> None:
    facts = await serving(agent, plane)
    await facts.say()
    if (await agent.ask("status"))["wireguardBackend"] == "kernel":
        pytest.skip("the kernel's WireGuard cannot be killed")
    [server] = [pid for pid in agent.host.processes() if psutil.Process(pid).name() == "wireguard-go"]
    inside = ["nsenter", "-t", str(agent.pid), "-m"]
    run(*inside, "mount", "--bind", "/dev/null", "/dev/net/tun")
    os.kill(server, signal.SIGKILL)
    withdrawn: list[Withdrawn] = []

    async def is_withdrawn() -> bool:
        fact = await facts.last()
        withdrawn.extend(fact.withdrawn if fact else ())
        return bool(withdrawn)

    await eventually(is_withdrawn)
    assert withdrawn[0].route_id == "r1"
    assert "the WireGuard device" in withdrawn[0].reason
    run(*inside, "umount", "/dev/net/tun")
    await facts.say()
    await in_step(agent, plane)
    await agent.stop()


async def test_forwarding_that_is_switched_off_is_on_again_before_anybody_moves(
    agent: AgentProcess, plane: Plane, lan: Namespace
) -> None:
    facts = await serving(agent, plane)
    await facts.say()
    setting = Path("/proc/sys/net/ipv4/ip_forward")
    agent.host.call(setting.write_text, "0")
    await eventually(lambda: agent.host.call(setting.read_text) == "1\n")
    agent.host.ip("link", "set", "eth1", "down")  # which is told in its turn
    await facts.say(("r1", NO_WAY))
    assert "forwarding is off" not in agent.said()
    await agent.stop()


async def test_a_silent_probe_target_is_a_fact_and_one_that_makes_no_sense_is_shown(
    agent: AgentProcess, plane: Plane, lan: Namespace
) -> None:
    silent, odd = Probe(kind="tcp", address="10.9.0.2", port=443), Probe(kind="icmp", address="10.1.0.1")
    with lan.call(socket.create_server, ("10.9.0.2", 443), backlog=4096):
        await plane.write("p.me", "r2", make.served("r2", "10.9.0.0/25", probe=silent))
        await plane.write("p.me", "r3", make.served("r3", "10.9.0.0/26", probe=odd))
        facts = await serving(agent, plane)
        await facts.say()
        await eventually(lambda: probed("r2", "probe", "up", agent))
        reason = "its probe target 10.1.0.1 is not in 10.9.0.0/26"
        await eventually(lambda: probed("r3", "probeFault", reason, agent))
    await facts.say(("r2", "the probe target is silent: tcp 10.9.0.2, port 443"))
    await agent.stop()


async def probed(route: str, field: str, value: str, agent: AgentProcess) -> bool:
    found: object = {one["id"]: one[field] for one in (await agent.ask("status"))["served"]}.get(route)
    return found == value
