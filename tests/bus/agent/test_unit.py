"""The agent with no more rights than deploy/systemd gives it."""

import re
import subprocess

import pytest
from msgspec.structs import replace

from tests.arch.tree import ROOT
from tests.bus.agent.lab import AgentProcess, KernelState, in_step
from tests.bus.agent.plane import ALL, Plane, lan, with_a_route
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

UNIT = (ROOT / "deploy/systemd/whimbrel-agent.service").read_text()


def unit_rights() -> tuple[str, ...]:
    """What starts a program with the rights of the unit."""
    [rights] = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT, re.M)
    bounds = ",".join(["-all", *(f"+{right.removeprefix('CAP_').lower()}" for right in rights.split())])
    return "setpriv", "--bounding-set", bounds, "--no-new-privs"


async def test_a_wireguard_of_another_network_namespace_that_may_not_be_looked_at_goes_on(
    agent: AgentProcess, plane: Plane, make_host: MakeHost
) -> None:
    others = make_host().spawn(["wireguard-go", "-f", "wt0"], log=subprocess.DEVNULL)
    agent.start(under=unit_rights())
    await in_step(agent, plane)
    assert others.poll() is None
    assert await agent.stop() == 0
    assert others.poll() is None


async def test_the_rights_that_the_unit_gives_are_enough(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    before = kernel.sysctls()
    await with_a_route(plane)
    await plane.write(
        ALL, "r2", replace(lan("me"), route_id="r2", network_id="here", network="10.8.0.0/16", permits=())
    )
    agent.start(under=unit_rights())
    await in_step(agent, plane)
    assert kernel.routes() == {"10.9.0.0/16"}
    assert kernel.sysctls() != before, "it forwards"
    assert await agent.stop() == 0
    assert kernel.bare()
    assert kernel.sysctls() == before
