"""A real agent on a host of its own: what it makes, what it repairs, what it leaves, and what it says."""

import asyncio
import base64
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
from nacl.public import PrivateKey

from deploy.lab.netns import Namespace, address, connect
from services.agent.state import remembered
from shared.events import subjects
from shared.events.documents import RouteDoc, RuleDoc
from shared.events.facts import ReportFact
from shared.events.signals import Beat
from tests.bus.agent.lab import COMMAND, KEY, AgentProcess, KernelState, Road
from tests.bus.agent.plane import ACCOUNT, ALL, Plane, peer_doc
from tests.support.bus import eventually
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

OVERLAY = {"100.64.0.1/16", "fd00:64::1/64"}
RULES = {("-4", 105), ("-4", 110), ("-6", 105), ("-6", 110)}


def new_key() -> str:
    return base64.b64encode(bytes(PrivateKey.generate().public_key)).decode()


def lan(routing_peer: str, *, keep: bool = True) -> RouteDoc:
    return RouteDoc(
        route_id="r1",
        network_id="office",
        network="10.9.0.0/16",
        domains=(),
        metric=100,
        masquerade=True,
        keep_route=keep,
        skip_auto_apply=False,
        routing_peers=(routing_peer,),
        distribution=("all",),
        permits=None,
    )


async def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The bus and the road to it go on meanwhile."""
    return await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=30)


async def whimbrel(agent: AgentProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return await run([COMMAND, *words, "--socket", str(agent.socket)])


async def with_a_route(plane: Plane) -> None:
    """A gateway that never answers, and a route that is kept all the same (decision R2)."""
    await plane.write(ALL, "gw", peer_doc("gw", 2, key=new_key()))
    await plane.write(ALL, "r1", lan("gw"))


async def in_step(agent: AgentProcess, plane: Plane, *, within_s: float = 10.0) -> None:
    await eventually(lambda: agent.applied(plane.revision), within_s=within_s)


def bare(kernel: KernelState) -> bool:
    return not kernel.link() and not kernel.rules() and not kernel.routes() and not kernel.table()


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
    assert bare(kernel)
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
    assert bare(kernel)


async def test_down_stops_it_and_comes_back_when_all_is_gone(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    agent.start()
    await in_step(agent, plane)
    done = await whimbrel(agent, "down")
    assert (done.returncode, done.stderr) == (0, "")
    assert bare(kernel)
    assert await agent.ended(within_s=2.0) == 0


async def test_the_setup_key_is_nowhere_to_be_seen(agent: AgentProcess, plane: Plane) -> None:
    agent.start("--setup-key", KEY, key=None)
    await in_step(agent, plane)
    for pid in agent.host.processes():
        for what in ("cmdline", "environ"):
            assert KEY.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
    assert KEY not in agent.said()
    assert await agent.stop() == 0
    kept = [path.read_bytes() for path in agent.state.iterdir() if path.is_file()]
    assert not any(KEY.encode() in content for content in kept)


async def test_an_enrolled_host_needs_no_key_and_does_not_enrol_again(agent: AgentProcess, plane: Plane) -> None:
    agent.start()
    await in_step(agent, plane)
    await agent.stop()
    agent.start(key=None)
    await in_step(agent, plane)
    assert len(plane.enrolments) == 1
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
    assert bare(kernel)


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
    await eventually(whole, within_s=1.0)
    await eventually(lambda: "somebody changed the kernel, repairing" in agent.said())
    assert f'"{kind}": ' in agent.said().partition("somebody changed")[0].rpartition("\n")[2]
    await agent.stop()


async def test_a_wireguard_go_that_died_is_replaced(agent: AgentProcess, plane: Plane, kernel: KernelState) -> None:
    agent.start()
    await in_step(agent, plane)
    [device] = [pid for pid in agent.host.processes() if pid != agent.pid]
    os.kill(device, signal.SIGKILL)
    await eventually(lambda: kernel.link() and kernel.addresses() == OVERLAY, within_s=3.0)
    await agent.stop()
    assert bare(kernel)


async def test_own_changes_make_no_further_passes(agent: AgentProcess, plane: Plane) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)
    process = psutil.Process(agent.pid)
    before = sum(process.cpu_times()[:2])
    await plane.write(ALL, "gw2", peer_doc("gw2", 3, key=new_key()))
    await in_step(agent, plane)
    await eventually(lambda: process.is_running(), within_s=1.0)
    assert "repairing" not in agent.said()
    assert sum(process.cpu_times()[:2]) - before < 0.5
    await agent.stop()


async def test_where_the_bus_was_outlives_the_agent(agent: AgentProcess, plane: Plane) -> None:
    agent.start("--bus", "nats://localhost:4222")
    await in_step(agent, plane)
    assert await agent.stop() == 0
    assert "127.0.0.1" in remembered.picture(agent.state).value.bus["localhost"]


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
    status = await agent.ask("status")
    assert status["peers"]["total"] == 0
    assert "does not admit this peer" in status["management"]["error"]
    assert "drop comment" in kernel.table()
    await agent.stop()


async def test_people_choose_networks_and_the_choice_outlives_the_agent(
    agent: AgentProcess, plane: Plane, kernel: KernelState
) -> None:
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)

    assert "office" in (await whimbrel(agent, "networks", "ls")).stdout
    assert (await whimbrel(agent, "networks", "deselect", "office")).stdout == "Networks deselected successfully.\n"
    await eventually(lambda: not kernel.routes(), within_s=2.0)
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
    await eventually(lambda: kernel.routes() == {"10.9.0.0/16"}, within_s=2.0)
    assert "10.9.0.0/16" in (await whimbrel(agent, "networks", "ls", "--json")).stdout
    assert "revision" in (await whimbrel(agent, "status", "-d")).stdout
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

    await eventually(met, within_s=10.0)
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


@pytest.mark.parametrize("reason", ["unknown", "revoked", "expired", "used-up"])
async def test_a_refused_key_ends_with_3_and_one_line_that_says_which(
    agent: AgentProcess, plane: Plane, kernel: KernelState, reason: str
) -> None:
    plane.refuse(KEY, reason)  # type: ignore[arg-type]
    agent.start()
    assert await agent.ended() == 3
    assert agent.said().startswith(f"error: enrolment refused ({reason}): ")
    assert agent.said().count("\n") == 1
    assert KEY not in agent.said()
    assert bare(kernel)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--bus", "http://10.0.0.1"),
            "--bus (WHIMBREL_BUS): write tls://HOST:PORT, or nats://HOST:PORT in a trusted network",
        ),
        (
            ("--bus", "nats://10.0.0.1:99999"),
            "--bus (WHIMBREL_BUS): write tls://HOST:PORT, or nats://HOST:PORT in a trusted network",
        ),
        (("--port", "0"), "--port (WHIMBREL_PORT): "),
        (("--interface", "../etc"), "--interface (WHIMBREL_INTERFACE): "),
        (("--interface", "longer-than-fifteen"), "--interface (WHIMBREL_INTERFACE): "),
        (("--log-level", "loud"), "--log-level (WHIMBREL_LOG_LEVEL): "),
        (("--setup-key-file", "/nowhere/at/all"), "setup key file /nowhere/at/all: No such file or directory"),
    ],
)
async def test_an_option_that_makes_no_sense_ends_with_2(
    host: Namespace, tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    agent = AgentProcess(host, tmp_path)
    agent.start(*options, key=None if "--setup-key-file" in options else KEY)
    assert await agent.ended() == 2
    assert agent.said().startswith(f"error: {line}")
    assert agent.said().count("\n") == 1


async def test_a_directory_that_cannot_be_used_is_named(host: Namespace, tmp_path: Path) -> None:
    agent = AgentProcess(host, tmp_path)
    agent.state.write_text("a file")
    agent.start()
    assert await agent.ended() == 1
    assert agent.said() == f"error: {agent.state}: File exists: choose another with --state-dir or --socket\n"


async def test_no_key_and_no_identity_ends_with_2(agent: AgentProcess, kernel: KernelState) -> None:
    agent.start(key=None)
    assert await agent.ended() == 2
    assert agent.said() == "error: this host is not enrolled yet: give --setup-key or --setup-key-file\n"
    assert bare(kernel)


async def test_an_unreachable_bus_is_waited_for_with_one_line(
    agent: AgentProcess, road: Road, plane: Plane, kernel: KernelState
) -> None:
    await road.close()
    agent.start()
    await eventually(lambda: "going on trying" in agent.said())
    assert bare(kernel)
    await road.open()
    await in_step(agent, plane, within_s=20.0)
    assert agent.said().count("going on trying") == 1
    await agent.stop()


async def test_a_corrupt_identity_ends_with_6_and_is_set_aside(agent: AgentProcess, kernel: KernelState) -> None:
    agent.state.mkdir(mode=0o700)
    (agent.state / "identity.json").write_text("rubbish")
    agent.start()
    assert await agent.ended() == 6
    assert agent.said().startswith(f"error: {agent.state}/identity.json is corrupt and was set aside as identity.json.")
    assert (agent.state / "identity.json.corrupt-1").read_text() == "rubbish"
    assert bare(kernel)


async def test_a_second_agent_on_the_host_ends_with_5(agent: AgentProcess, plane: Plane, tmp_path: Path) -> None:
    agent.start()
    await in_step(agent, plane)
    for name, options, named in (
        ("agent", (), "state directory"),
        ("second", (), "another agent runs on this host"),
        ("third", ("--interface", "wt1", "--port", "51821"), "another agent runs on this host"),
    ):
        second = AgentProcess(agent.host, tmp_path, name)
        second.log = tmp_path / f"{name}.log"
        second.start(*options)
        assert await second.ended() == 5
        assert second.said().startswith(f"error: {named}")
        assert second.said().count("\n") == 1
    await in_step(agent, plane)
    await agent.stop()


async def test_a_port_that_somebody_has_is_named(agent: AgentProcess, kernel: KernelState) -> None:
    taken = agent.host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("0.0.0.0", 51820))
    agent.start()
    assert await agent.ended() == 5
    assert agent.said() == (
        "error: UDP port 51820 is in use by another program: stop it, or choose another with --port\n"
    )
    taken.close()
    assert bare(kernel)


HIDE_TUN = 'mount -t tmpfs none /dev/net && exec "$@"'
HIDE_NFT = "for f in $(ldconfig -p | awk '/libnftables.so.1/ {print $NF}'); do "
HIDE_NFT += 'mount --bind /dev/null $(readlink -f $f); done; exec "$@"'
UNPRIVILEGED = 'exec setpriv --bounding-set=-all --inh-caps=-all "$@"'


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        (HIDE_TUN, "error: no WireGuard: the kernel has no module wireguard, and /dev/net/tun cannot be opened"),
        (HIDE_NFT, "error: libnftables is missing: apt install libnftables1"),
        (UNPRIVILEGED, "error: managing WireGuard needs root (CAP_NET_ADMIN): run as root"),
    ],
    ids=["no TUN", "no nft", "not root"],
)
async def test_a_host_that_lacks_something_ends_with_4_and_the_remedy(
    host: Namespace, kernel: KernelState, tmp_path: Path, shell: str, line: str
) -> None:
    words = [COMMAND, "up", "--bus", "nats://127.0.0.1:4222", "--setup-key", KEY, "--state-dir", str(tmp_path / "s")]
    done = await run(host.command(["unshare", "-m", "sh", "-c", shell, "sh", *words]))
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert done.stderr.startswith(line)
    assert not (tmp_path / "s").exists()
    assert bare(kernel)


async def test_daemon_comes_back_once_the_agent_runs(agent: AgentProcess, plane: Plane) -> None:
    words = [COMMAND, "up", "--bus", "nats://127.0.0.1:4222", "--state-dir", str(agent.state)]
    words += ["--socket", str(agent.socket), "--daemon", "--setup-key", KEY]
    done = await run(agent.host.command(words))
    assert done.returncode == 0
    assert f"its log is {agent.state}/agent.log" in done.stdout
    await in_step(agent, plane)
    assert (await whimbrel(agent, "down")).returncode == 0
    await eventually(lambda: agent.host.processes() == [])


@pytest.mark.parametrize("made", ["link add wt0 type veth peer name other", "tuntap add wt0 mode tun"])
async def test_an_interface_of_somebody_else_is_left_alone(agent: AgentProcess, kernel: KernelState, made: str) -> None:
    agent.host.ip(*made.split())
    agent.host.ip("address", "add", "192.0.2.2/24", "dev", "wt0")
    agent.start()
    assert await agent.ended() == 5
    assert "interface wt0 is somebody else's: choose another with --interface" in agent.said()
    assert "192.0.2.2/24" in kernel.addresses()


async def test_a_wireguard_with_another_key_is_left_alone(agent: AgentProcess, plane: Plane) -> None:
    agent.start()
    await in_step(agent, plane)
    await agent.kill()
    device = agent.host.processes()
    identity, elsewhere = agent.state / "identity.json", agent.state / "elsewhere"
    identity.rename(elsewhere)
    agent.start()
    assert await agent.ended() == 5
    assert "interface wt0 is somebody else's" in agent.said()
    assert agent.host.processes() == device
    assert not identity.exists()
    elsewhere.rename(identity)
    agent.start()
    await in_step(agent, plane)
    await agent.stop()
    assert agent.host.processes() == []


async def test_a_second_daemon_ends_with_5(agent: AgentProcess, plane: Plane) -> None:
    agent.start()
    await in_step(agent, plane)
    second = await whimbrel(agent, "up", "--daemon", "--bus", "nats://127.0.0.1:4222", "--state-dir", str(agent.state))
    assert second.returncode == 5
    assert "runs, its log" not in second.stdout


async def test_daemon_says_what_is_in_the_way_of_a_connection(host: Namespace, tmp_path: Path) -> None:
    agent = AgentProcess(host, tmp_path)
    words = [COMMAND, "up", "--bus", "nats://127.0.0.1:9", "--state-dir", str(agent.state), "--setup-key", KEY]
    done = await run(host.command([*words, "--socket", str(agent.socket), "--daemon"]))
    assert done.returncode == 0
    why, where = done.stdout.splitlines()
    assert why.startswith("this host is not enrolled yet: bus nats://127.0.0.1:9: Connect call failed")
    assert where.endswith(f"runs and is not connected yet, its log is {agent.state}/agent.log")
    shown = (await whimbrel(agent, "status")).stdout
    assert f"Bus        {why}" in shown
    assert (await whimbrel(agent, "down")).returncode == 0


async def test_daemon_says_why_the_agent_ended(agent: AgentProcess, plane: Plane) -> None:
    plane.refuse(KEY, "expired")
    words = [COMMAND, "up", "--bus", "nats://127.0.0.1:4222", "--state-dir", str(agent.state)]
    words += ["--socket", str(agent.socket), "--daemon", "--setup-key", KEY]
    done = await run(agent.host.command(words))
    assert done.returncode == 3
    assert done.stderr == "error: enrolment refused (expired): the setup key is expired: ask for another\n"


async def test_an_enrolled_host_starts_without_the_file_its_key_was_in(
    agent: AgentProcess, plane: Plane, tmp_path: Path
) -> None:
    file = tmp_path / "setup-key"
    file.write_text(KEY + "\n")
    agent.start("--setup-key-file", str(file), key=None)
    await in_step(agent, plane)
    await agent.stop()
    file.unlink()
    agent.start("--setup-key-file", str(file), key=None)
    await in_step(agent, plane)
    await agent.stop()


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
    assert bare(kernel)


@pytest.mark.parametrize("words", [("status",), ("networks", "ls"), ("networks", "select", "x"), ("down",)])
async def test_without_an_agent_the_remedy_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = await run([COMMAND, *words, "--socket", str(tmp_path / "none.sock")])
    assert done.returncode == 1
    assert done.stderr == (
        f"error: no agent runs at {tmp_path}/none.sock: start it with `whimbrel up`, or name its socket with --socket\n"
    )
