"""What a real agent makes in the kernel, repairs, adopts from a predecessor and removes."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from services.agent.drivers.wireguard.sockets import forbid_fragments
from shared.events.documents import RouteDoc
from tests.bus.agent.lab import OVERLAY, RULES, AgentProcess, KernelState, in_step
from tests.bus.agent.plane import ALL, Plane, new_key, peer_doc, with_a_route
from tests.support.bus import eventually

pytestmark = pytest.mark.root


async def test_an_agent_enrols_makes_its_state_and_removes_it_on_sigterm(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    before = kernel.sysctls()
    await with_a_route(plane)
    agent.start("--hostname", "alpha")
    await in_step(agent, plane)
    assert kernel.addresses() == OVERLAY
    assert kernel.rules() == RULES
    assert kernel.routes() == {"10.9.0.0/16"}
    assert "chain forward_overlay" in kernel.table()
    assert plane.enrolments[0].meta.hostname == "alpha"
    assert await agent.stop() == 0
    assert kernel.bare()
    assert kernel.sockets() == []
    assert not agent.socket.exists()
    assert agent.host.processes() == []
    assert kernel.sysctls() == before


async def test_a_host_whose_ipv6_is_switched_off_goes_on_with_ipv4(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.host.call(Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text, "1")
    agent.host.call(Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text, "1")
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    assert plane.enrolments[0].meta.ipv6 is False
    assert kernel.addresses() == {address for address in OVERLAY if ":" not in address}
    assert {family for family, _ in kernel.rules()} == {family for family, _ in RULES if "6" not in str(family)}
    assert await agent.stop() == 0
    assert kernel.bare()


@pytest.mark.parametrize("switch", ["all", "default"])
async def test_ipv6_that_is_switched_on_again_comes_back(
    agent: AgentProcess, plane: Plane, kernel: KernelState, switch: str
) -> None:
    for name in ("default", "all"):
        agent.host.call(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text, "1")
    agent.start()
    await in_step(agent, plane)
    agent.host.call(Path(f"/proc/sys/net/ipv6/conf/{switch}/disable_ipv6").write_text, "0")
    agent.host.ip("address", "add", "192.0.2.1/32", "dev", "lo")  # which has the settings read: the switch has not
    await eventually(lambda: kernel.addresses() == OVERLAY and kernel.rules() == RULES, within_s=45.0)
    await in_step(agent, plane)
    agent.host.call(Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text, "1")
    await eventually(lambda: {family for family, _ in kernel.rules()} == {"-4"}, within_s=45.0)
    await in_step(agent, plane)
    assert await agent.stop() == 0
    assert kernel.bare()


async def test_routers_may_fragment_what_wireguard_go_sends_also_after_its_interface_was_down(
    agent: AgentProcess, plane: Plane
) -> None:
    agent.start()
    await in_step(agent, plane)
    if (await agent.ask("status"))["wireguardBackend"] == "kernel":
        pytest.skip("the kernel's WireGuard lets them anyway")
    [server] = [pid for pid in agent.host.processes() if psutil.Process(pid).name() == "wireguard-go"]
    await eventually(lambda: forbid_fragments(server, 51820) == [False])
    agent.host.ip("link", "set", "wt0", "down")
    await eventually(lambda: "UP" in agent.host.ip("link", "show", "wt0").split("mtu")[0])
    await eventually(lambda: forbid_fragments(server, 51820) == [False])
    await in_step(agent, plane)
    assert (await agent.ask("status"))["limit"] == ""
    await agent.stop()


async def test_a_new_agent_adopts_what_a_killed_one_left(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    device = agent.host.processes()
    device.remove(agent.pid)
    original = kernel.originals(agent)
    await agent.kill()
    assert kernel.routes() == {"10.9.0.0/16"}
    agent.start()
    await in_step(agent, plane)
    assert [pid for pid in agent.host.processes() if pid != agent.pid] == device
    assert "repairing" not in agent.said()
    assert kernel.originals(agent) == original
    await agent.stop()
    assert kernel.bare()


async def test_without_a_last_good_state_the_bus_is_asked_before_anything_is_removed(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    await agent.kill()
    (agent.state / "lastgood").unlink(missing_ok=True)
    with kernel.watch() as changes:
        agent.start()
        await in_step(agent, plane)
    assert "Deleted" not in changes.read_text()
    assert kernel.routes() == {"10.9.0.0/16"}
    await agent.stop()


async def test_a_new_agent_removes_what_a_killed_one_left_and_nobody_wants(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    await agent.kill()
    await plane.delete(ALL, RouteDoc, "r1")
    agent.start()
    await in_step(agent, plane)
    assert kernel.routes() == set()
    await agent.stop()


async def test_sysctls_are_put_back_even_after_a_crash(agent: AgentProcess, plane: Plane, kernel: KernelState) -> None:
    kernel.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    before = kernel.sysctls()
    agent.start()
    await in_step(agent, plane)
    assert kernel.sysctls()["net.ipv4.conf.all.rp_filter"] == "2"
    await agent.kill()
    agent.start()
    await in_step(agent, plane)
    await agent.stop()
    assert kernel.sysctls() == before


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("nft", "flush", "ruleset"), "ruleset"),
        (("nft", "flush", "chain", "inet", "whimbrel", "forward_overlay"), "ruleset"),
        (("ip", "rule", "del", "priority", "110"), "rule"),
        (("ip", "-6", "rule", "del", "priority", "105"), "rule"),
        (("ip", "route", "flush", "table", "7120"), "route"),
        (("ip", "address", "flush", "dev", "wt0"), "link"),
        (("ip", "link", "set", "wt0", "down"), "link"),
        (("ip", "link", "del", "wt0"), "link"),
    ],
    ids=lambda change: " ".join(change) if isinstance(change, tuple) else None,
)
async def test_drift_is_repaired_within_a_second_and_reported(
    agent: AgentProcess, plane: Plane, kernel: KernelState, change: tuple[str, ...], kind: str
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)

    def whole() -> bool:
        return (
            kernel.link()
            and kernel.addresses() == OVERLAY
            and kernel.rules() == RULES
            and kernel.routes() == {"10.9.0.0/16"}
            and "drop comment" in kernel.table()
        )

    assert whole()
    kernel.run(*change)
    await eventually(whole, within_s=20.0)
    await eventually(lambda: "somebody changed the kernel, repairing" in agent.said())
    assert f'"{kind}": ' in agent.said().partition("somebody changed")[0].rpartition("\n")[2]
    await agent.stop()


@pytest.mark.parametrize("change", [("allowed-ips", ""), ("remove",)], ids=" ".join)
async def test_peers_that_another_program_changes_are_put_back_and_reported(
    agent: AgentProcess, plane: Plane, kernel: KernelState, change: tuple[str, ...]
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    before = kernel.run("wg", "show", "wt0", "allowed-ips")
    assert "10.9.0.0/16" in before
    kernel.run("wg", "set", "wt0", "peer", before.split()[0], *change)
    assert kernel.run("wg", "show", "wt0", "allowed-ips") != before
    # WireGuard tells nobody; the agent sees it when it reads its counters, each second.
    await eventually(lambda: kernel.run("wg", "show", "wt0", "allowed-ips") == before, within_s=20.0)
    await eventually(lambda: '"peer": ' in agent.said().partition("somebody changed")[0].rpartition("\n")[2])
    await agent.stop()


async def test_a_wireguard_go_that_died_is_replaced(agent: AgentProcess, plane: Plane, kernel: KernelState) -> None:
    agent.start()
    await in_step(agent, plane)
    [device] = [pid for pid in agent.host.processes() if pid != agent.pid]
    os.kill(device, signal.SIGKILL)
    await eventually(lambda: kernel.link() and kernel.addresses() == OVERLAY, within_s=20.0)
    await agent.stop()
    assert kernel.bare()


async def test_own_changes_make_no_further_passes(agent: AgentProcess, plane: Plane) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    process = psutil.Process(agent.pid)
    before = sum(process.cpu_times()[:2])
    await plane.write(ALL, "gw2", peer_doc("gw2", 3, key=new_key()))
    await in_step(agent, plane)
    await eventually(lambda: process.is_running())
    assert "repairing" not in agent.said()
    assert sum(process.cpu_times()[:2]) - before < 0.5
    await agent.stop()
