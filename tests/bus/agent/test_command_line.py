"""The commands for a real agent: up --daemon, down, networks."""

import subprocess
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace
from tests.bus.agent.lab import COMMAND, KEY, AgentProcess, KernelState, in_step, run, whimbrel
from tests.bus.agent.plane import Plane, with_a_route
from tests.support.bus import eventually

pytestmark = pytest.mark.root


async def daemon(agent: AgentProcess, bus: str = "nats://127.0.0.1:4222") -> subprocess.CompletedProcess[str]:
    """`up --daemon` on the agent's host."""
    words = [COMMAND, "up", "--bus", bus, "--state-dir", str(agent.state), "--socket", str(agent.socket)]
    return await run(agent.host.command([*words, "--daemon", "--setup-key", KEY]))


async def test_down_stops_it_and_comes_back_when_all_is_gone(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.start()
    await in_step(agent, plane)
    done = await whimbrel(agent, "down")
    assert (done.returncode, done.stderr) == (0, "")
    assert kernel.bare()
    assert await agent.ended(within_s=20.0) == 0


async def test_after_a_crash_down_says_what_removes_what_is_left(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.start()
    await in_step(agent, plane)
    await agent.kill()
    refused = await whimbrel(agent, "down")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"error: the agent at {agent.socket} was killed, and what it made is still there: "
        "`whimbrel up` goes on with it, and `whimbrel down` after that removes it\n"
    )
    agent.start(key=None)
    await in_step(agent, plane)
    assert (await whimbrel(agent, "down")).returncode == 0
    assert kernel.bare()


async def test_people_choose_networks_and_the_choice_outlives_the_agent(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)

    assert "office" in (await whimbrel(agent, "networks", "ls")).stdout
    assert (await whimbrel(agent, "networks", "deselect", "office")).stdout == "Networks deselected successfully.\n"
    await eventually(lambda: not kernel.routes(), within_s=20.0)
    await agent.stop()
    agent.start()
    await in_step(agent, plane)
    assert kernel.routes() == set()
    refused = await whimbrel(agent, "networks", "select", "office", "attic")
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: not offered to this host: attic; nothing is changed, see `whimbrel networks ls`\n",
    )
    assert "Not Selected" in (await whimbrel(agent, "networks", "ls")).stdout
    assert (await whimbrel(agent, "networks", "select", "office")).stdout == "Networks selected successfully.\n"
    await eventually(lambda: kernel.routes() == {"10.9.0.0/16"}, within_s=20.0)
    assert "10.9.0.0/16" in (await whimbrel(agent, "networks", "ls", "--json")).stdout
    assert "revision" in (await whimbrel(agent, "status", "-d")).stdout
    await agent.stop()


async def test_daemon_comes_back_once_the_agent_runs(agent: AgentProcess, plane: Plane) -> None:
    done = await daemon(agent)
    assert done.returncode == 0
    assert f"its log is {agent.state}/agent.log" in done.stdout
    await in_step(agent, plane)
    assert {path.stat().st_mode & 0o777 for path in agent.state.iterdir()} == {0o600}
    assert (await whimbrel(agent, "down")).returncode == 0
    await eventually(lambda: agent.host.processes() == [])


async def test_daemon_says_what_is_in_the_way_of_a_connection(host: Namespace, tmp_path: Path) -> None:
    agent = AgentProcess(host, tmp_path)
    done = await daemon(agent, "nats://127.0.0.1:9")
    assert done.returncode == 0
    why, where = done.stdout.splitlines()
    assert why.startswith("this host is not enrolled yet: bus nats://127.0.0.1:9: Connect call failed")
    assert where.endswith(f"runs and is not connected yet, its log is {agent.state}/agent.log")

    async def told() -> bool:  # a try of a busy machine may end another way, and the next one as before
        shown = (await whimbrel(agent, "status")).stdout
        return ["Bus", why] in [line.split(maxsplit=1) for line in shown.splitlines()]

    await eventually(told)
    assert (await whimbrel(agent, "down")).returncode == 0


async def test_daemon_says_why_the_agent_ended(agent: AgentProcess, plane: Plane) -> None:
    plane.refuse(KEY, "expired")
    done = await daemon(agent)
    assert done.returncode == 3
    assert done.stderr == "error: enrolment refused (expired): the setup key is expired: ask for another\n"


async def test_a_second_daemon_ends_with_5(agent: AgentProcess, plane: Plane) -> None:
    agent.start()
    await in_step(agent, plane)
    second = await whimbrel(agent, "up", "--daemon", "--bus", "nats://127.0.0.1:4222", "--state-dir", str(agent.state))
    assert second.returncode == 5
    assert "runs, its log" not in second.stdout


@pytest.mark.parametrize("words", [("status",), ("networks", "ls"), ("networks", "select", "x")])
async def test_without_an_agent_the_remedy_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = await run([COMMAND, *words, "--socket", str(tmp_path / "none.sock")])
    assert done.returncode == 1
    assert done.stderr == (
        f"error: no agent runs at {tmp_path}/none.sock: start it with `whimbrel up`, or name its socket with --socket\n"
    )
