"""A real agent on a host with a resolv.conf of its own: programs ask it, and ask as before once it has stopped."""

import asyncio
from pathlib import Path

import dns.message
import dns.query
import pytest

from deploy.lab.netns import Namespace
from services.agent.core.dns.hostdns import MARK
from tests.bus.agent.lab import AgentProcess, in_step, whimbrel
from tests.bus.agent.plane import Plane
from tests.support.bus import eventually

pytestmark = pytest.mark.root

THEIRS = "nameserver 192.0.2.53\nsearch home.test\noptions rotate\n"
SERVER = "100.64.0.1"


class Etc:
    """The file that is /etc/resolv.conf on the host."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "resolv.conf"
        self.path.write_text(THEIRS)
        self.under = ("unshare", "--mount", "sh", "-c", f'mount --bind {self.path} /etc/resolv.conf && exec "$@"', "sh")

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def is_ours(self) -> bool:
        return self.text.startswith(MARK) and f"nameserver {SERVER}\n" in self.text


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)


def ask(host: Namespace, name: str) -> list[str]:
    query = dns.message.make_query(name, "A")
    answer = host.call(dns.query.udp, query, SERVER, timeout=5.0)
    return [record.to_text() for rrset in answer.answer for record in rrset]


async def test_programs_ask_the_agent_while_it_runs_and_as_before_afterwards(
    agent: AgentProcess, plane: Plane, etc: Etc, host: Namespace
) -> None:
    machine = Path("/etc/resolv.conf").read_bytes()
    agent.start(under=etc.under)
    await in_step(agent, plane)
    await eventually(lambda: etc.is_ours)
    assert "home.test" in etc.text
    assert "rotate" not in etc.text
    assert await agent.stop() == 0
    assert etc.text == THEIRS
    assert Path("/etc/resolv.conf").read_bytes() == machine


async def test_after_a_crash_the_next_start_begins_with_what_was_there(
    agent: AgentProcess, plane: Plane, etc: Etc
) -> None:
    agent.start(under=etc.under)
    await eventually(lambda: etc.is_ours)
    await agent.kill()
    assert etc.is_ours
    agent.start(under=etc.under)
    await in_step(agent, plane)
    await eventually(lambda: etc.is_ours)
    await agent.stop()
    assert etc.text == THEIRS


async def test_what_another_program_writes_is_repaired_and_is_what_is_put_back(
    agent: AgentProcess, plane: Plane, etc: Etc
) -> None:
    agent.start(under=etc.under)
    await eventually(lambda: etc.is_ours)
    etc.path.write_text("nameserver 198.51.100.1\n")
    await eventually(lambda: etc.is_ours)
    await agent.stop()
    assert etc.text == "nameserver 198.51.100.1\n"
    assert "somebody changed the DNS of this host" in agent.log.read_text()


async def test_a_network_namespace_without_a_file_of_its_own_leaves_the_machines_alone(
    agent: AgentProcess, plane: Plane, host: Namespace
) -> None:
    machine = Path("/etc/resolv.conf").read_bytes()
    agent.start()
    await in_step(agent, plane)
    await eventually(lambda: answers(host))
    assert Path("/etc/resolv.conf").read_bytes() == machine
    await agent.stop()


async def answers(host: Namespace) -> bool:
    try:
        return await asyncio.to_thread(ask, host, "nobody.wb.test") == []
    except OSError:
        return False


async def test_debug_dns_says_what_a_program_gets_and_who_answered(agent: AgentProcess, plane: Plane) -> None:
    agent.start()
    await in_step(agent, plane)
    said = await whimbrel(agent, "debug", "dns", "nobody.wb.test")
    assert said.stdout.startswith("nobody.wb.test A: NXDOMAIN from this host in ")
    assert "names of peers in wb.test" in said.stdout
    mistyped = await whimbrel(agent, "debug", "dns", "nobody.wb.test", "--type", "nonsense")
    assert (mistyped.returncode, len(mistyped.stderr.splitlines())) == (2, 1)
    await agent.stop()
