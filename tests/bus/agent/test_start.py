"""Starting a real agent: with which key, what it waits for, and what keeps it from starting."""

import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

from deploy.lab.netns import Namespace
from tests.bus.agent.lab import COMMAND, KEY, AgentProcess, KernelState, Road, in_step, run
from tests.bus.agent.plane import Plane
from tests.support.bus import eventually

pytestmark = pytest.mark.root

HIDE_TUN = 'mount -t tmpfs none /dev/net && exec "$@"'
HIDE_NFT = "for f in $(ldconfig -p | awk '/libnftables.so.1/ {print $NF}'); do "
HIDE_NFT += 'mount --bind /dev/null $(readlink -f $f); done; exec "$@"'
UNPRIVILEGED = 'exec setpriv --bounding-set=-all --inh-caps=-all "$@"'


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


async def test_an_unreachable_bus_is_waited_for_with_one_line(
    agent: AgentProcess, road: Road, plane: Plane, kernel: KernelState
) -> None:
    await road.close()
    agent.start()
    await eventually(lambda: "going on trying" in agent.said())
    assert kernel.bare()
    await road.open()
    await in_step(agent, plane, within_s=20.0)
    assert agent.said().count("going on trying") == 1
    await agent.stop()


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
    assert kernel.bare()


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


async def test_no_key_and_no_identity_ends_with_2(agent: AgentProcess, kernel: KernelState) -> None:
    agent.start(key=None)
    assert await agent.ended() == 2
    assert agent.said() == "error: this host is not enrolled yet: give --setup-key or --setup-key-file\n"
    assert kernel.bare()


async def test_a_directory_that_cannot_be_used_is_named(host: Namespace, tmp_path: Path) -> None:
    agent = AgentProcess(host, tmp_path)
    agent.state.write_text("a file")
    agent.start()
    assert await agent.ended() == 1
    assert agent.said() == f"error: {agent.state}: File exists: choose another with --state-dir or --socket\n"


async def test_a_corrupt_identity_ends_with_6_and_is_set_aside(agent: AgentProcess, kernel: KernelState) -> None:
    agent.state.mkdir(mode=0o700)
    (agent.state / "identity.json").write_text("rubbish")
    agent.start()
    assert await agent.ended() == 6
    assert agent.said().startswith(f"error: {agent.state}/identity.json is corrupt and was set aside as identity.json.")
    assert (agent.state / "identity.json.corrupt-1").read_text() == "rubbish"
    assert kernel.bare()


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
    assert kernel.bare()


async def test_machines_read_its_metrics_on_loopback(agent: AgentProcess, plane: Plane) -> None:
    agent.start("--metrics-port", "9191")
    await in_step(agent, plane)

    def page() -> str:
        with urlopen("http://127.0.0.1:9191/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    assert "whimbrel_agent_drift_repairs" in agent.host.call(page)
    await agent.stop()


async def test_a_metrics_port_that_somebody_has_is_named(agent: AgentProcess, kernel: KernelState) -> None:
    with agent.host.call(socket.create_server, ("127.0.0.1", 9191)):
        agent.start("--metrics-port", "9191")
        assert await agent.ended() == 5
    assert agent.said() == "error: 127.0.0.1:9191 is in use: choose another with --metrics-port\n"
    assert kernel.bare()


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
    assert kernel.bare()
