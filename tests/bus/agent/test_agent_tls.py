"""A real agent and a bus with TLS: what it says of a bus it does not believe, and how that heals by itself."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace
from tests.bus.agent.lab import BUS_PORT, KEY, AgentProcess, Road
from tests.bus.agent.plane import Plane
from tests.support.bus import eventually
from tests.support.tls import Authority

pytestmark = pytest.mark.root

HOST = "127.0.0.1"
URL = f"tls://{HOST}:{BUS_PORT}"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "tls")
    authority.issue(HOST, from_days=-9, to_days=-1)
    return authority


@pytest.fixture
async def plane(tmp_path: Path, authority: Authority) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path, authority)
    await plane.server.start()  # nobody can connect yet
    yield plane
    await plane.stop()


async def bus_of(agent: AgentProcess) -> tuple[bool, str]:
    """Whether it is connected, and what is in the way."""
    status = await agent.ask("status")
    return (status["management"]["connected"], status["management"]["error"]) if status else (False, "")


async def test_an_agent_says_what_is_wrong_with_a_certificate_and_goes_on_when_it_is_renewed(
    host: Namespace, road: Road, plane: Plane, authority: Authority, tmp_path: Path
) -> None:
    agent = AgentProcess(host, tmp_path)
    agent.start("--bus", URL, "--bus-ca", str(authority.ca))
    await eventually(lambda: "its certificate has expired: renew it" in agent.said())
    await eventually(lambda: told(agent, f"not enrolled yet: bus {URL}: its certificate has expired"))
    authority.issue(HOST)
    plane.server.reload()
    await plane.open()
    plane.accept(KEY, "me")
    await plane.settle()
    await plane.place("me", 1)
    await eventually(lambda: agent.applied(plane.revision), within_s=30)

    authority.issue("bus.example.com")
    plane.server.reload()
    await eventually(lambda: told(agent, f"its certificate is not for {HOST}"), within_s=30)
    authority.issue(HOST)
    plane.server.reload()
    await plane.place("me", 2)
    await eventually(lambda: agent.applied(plane.revision), within_s=30)
    assert (await bus_of(agent)) == (True, "")
    assert await agent.stop() == 0
    assert KEY not in agent.said()


async def told(agent: AgentProcess, problem: str) -> bool:
    connected, error = await bus_of(agent)
    return not connected and problem in error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bus", f"{URL},nats://{HOST}:{BUS_PORT}"), "--bus (WHIMBREL_BUS): write tls:// in front of every address"),
        (("--bus-ca", "/nowhere"), "--bus-ca (WHIMBREL_BUS_CA): it is of use with TLS only"),
        (("--bus", URL, "--bus-ca", "/nowhere"), "--bus-ca (WHIMBREL_BUS_CA): /nowhere: No such file or directory"),
    ],
)
async def test_options_that_make_no_sense_end_it_with_one_line(
    host: Namespace, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    agent = AgentProcess(host, tmp_path)
    agent.start(*options)
    assert await agent.ended() == 2
    assert agent.said().startswith(f"error: {said}")
    assert agent.said().count("\n") == 1
