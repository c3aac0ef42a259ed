"""A real agent that serves a domain route: its forwarder comes and goes with the route and the agent."""

import asyncio
from functools import partial

import dns.message
import dns.query
import dns.rcode
import pytest
from msgspec.structs import replace

from shared.events.documents import RouteDoc
from tests.bus.agent.lab import AgentProcess, KernelState, in_step, whimbrel
from tests.bus.agent.plane import Plane, lan
from tests.support.bus import eventually

pytestmark = pytest.mark.root

MINE = "p.me"
ADDRESSES = ["100.64.0.1", "fd00:64::1"]


async def serves_a_name(plane: Plane) -> None:
    await plane.write(MINE, "r1", replace(lan("me"), network="", domains=("*.corp.example",), permits=()))


def forwarders(agent: AgentProcess) -> list[int]:
    """Processes of the host that are forwarders."""
    commands = {pid: _command(pid) for pid in agent.host.processes()}
    return [pid for pid, command in commands.items() if "services.agent.forwarder" in command]


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


async def listens(agent: AgentProcess) -> bool:
    status = await agent.ask("status")
    return bool(status and status["forwarder"] and status["forwarder"]["listening"] == ADDRESSES)


async def asked(agent: AgentProcess) -> str:
    """What the host itself hears, who is nobody's client."""
    question = dns.message.make_query("x.corp.example", "A")
    ask = partial(dns.query.udp, question, ADDRESSES[0], port=22054, timeout=5.0)
    return dns.rcode.to_text((await asyncio.to_thread(agent.host.call, ask)).rcode())


async def test_the_forwarder_comes_with_the_first_name_and_goes_with_the_last_or_with_the_agent(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.start()
    await in_step(agent, plane)
    assert (await agent.ask("status"))["forwarder"] is None
    assert forwarders(agent) == []
    await serves_a_name(plane)
    await in_step(agent, plane)
    await eventually(partial(listens, agent), within_s=20.0)
    assert await asked(agent) == "REFUSED"
    assert "answered on port 22054 of 100.64.0.1, fd00:64::1" in " ".join(
        (await whimbrel(agent, "status")).stdout.split()
    )
    await plane.delete(MINE, RouteDoc, "r1")
    await in_step(agent, plane)
    await eventually(lambda: forwarders(agent) == [], within_s=20.0)
    await serves_a_name(plane)
    await in_step(agent, plane)
    await eventually(partial(listens, agent), within_s=20.0)
    await agent.stop()
    await eventually(lambda: forwarders(agent) == [], within_s=20.0)
    assert kernel.bare()


async def test_a_killed_agent_leaves_no_forwarder_and_the_next_one_has_its_own(
    agent: AgentProcess, plane: Plane
) -> None:
    await serves_a_name(plane)
    agent.start()
    await in_step(agent, plane)
    await eventually(partial(listens, agent), within_s=20.0)
    former = forwarders(agent)
    await agent.kill()
    await eventually(lambda: forwarders(agent) == [], within_s=20.0)
    agent.start()
    await eventually(partial(listens, agent), within_s=30.0)
    assert len(forwarders(agent)) == 1
    assert forwarders(agent) != former
    assert await asked(agent) == "REFUSED"
    await agent.stop()
