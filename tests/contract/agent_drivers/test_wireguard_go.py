"""The life of wireguard-go: started, taken over, replaced, ended; and two of them that reach each other."""

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.kernel import CONTROL_MARK, Link, WireGuardDevice, WireGuardPeer
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_links import Links
from services.agent.drivers.wireguard import mechanism
from services.agent.drivers.wireguard.process import SOCKETS
from services.agent.drivers.wireguard.userspace import WireGuardGo
from services.agent.errors import MechanismMissing
from tests.contract.agent_drivers.conftest import ROOT, key, missing, public, run_on
from tests.support.bus import LIMIT_S
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

T = TypeVar("T")

SOCKET = SOCKETS / "wt0.sock"
OWN, OTHER = key(1), public(key(2))
DEVICE = WireGuardDevice(public_key=public(OWN), listen_port=51820, fwmark=CONTROL_MARK)
PEER = WireGuardPeer(public_key=OTHER, allowed_ips=frozenset({"10.0.0.0/8"}), endpoint="192.0.2.1:51820")


def with_driver(host: Namespace, scenario: Callable[[WireGuardGo], Coroutine[Any, Any, T]]) -> T:
    async def scene(rtnl: Netlink) -> T:
        return await scenario(WireGuardGo(rtnl, "wt0", OWN))

    return run_on(host, scene)


def servers(host: Namespace) -> list[psutil.Process]:
    """The wireguard-go processes on the host that have not ended."""
    found = [psutil.Process(pid) for pid in host.processes()]
    return [one for one in found if one.name() == "wireguard-go" and one.status() != psutil.STATUS_ZOMBIE]


def gone(condition: Callable[[], bool]) -> None:
    """Wait until it no longer holds."""
    deadline = time.monotonic() + LIMIT_S
    while condition():
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.005)


async def create(driver: WireGuardGo) -> None:
    await driver.create()
    assert await driver.configure(DEVICE) is None
    assert await driver.upsert({OTHER: PEER}) == {}


async def is_new(driver: WireGuardGo) -> None:
    """A device that just started: there, without a key or a peer."""
    await driver.create()
    device, peers = await driver.observe()
    assert device is not None
    assert (device.public_key, peers) == ("", {})


def test_it_starts_in_a_session_of_its_own_and_without_our_environment(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHIMBREL_SETUP_KEY", "secret")
    with_driver(host, create)
    (server,) = servers(host)
    assert os.getsid(server.pid) == server.pid
    assert "secret" not in str(server.environ())
    assert OWN not in str(server.cmdline())
    assert Path(f"/proc/{server.pid}/fd/1").readlink() == Path("/dev/null")


def test_the_next_agent_takes_over_what_a_killed_one_left(host: Namespace) -> None:
    """The agent is killed with -9; its wireguard-go keeps keys, peers and process."""
    owner = subprocess.Popen(
        host.command([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{OWNER}"]),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    before = servers(host)
    owner.kill()
    owner.wait()

    async def take_over(driver: WireGuardGo) -> None:
        await driver.create()
        assert await driver.observe() == (DEVICE, {OTHER: PEER})

    with_driver(host, take_over)
    assert servers(host) == before

    async def end(driver: WireGuardGo) -> None:
        await driver.destroy()
        assert await driver.observe() == (None, {})

    with_driver(host, end)
    assert servers(host) == []


OWNER = f"""
import asyncio
from services.agent.core.kernel import WireGuardDevice, WireGuardPeer
from services.agent.drivers import netlink
from services.agent.drivers.wireguard.userspace import WireGuardGo
async def main():
    driver = WireGuardGo(netlink.Netlink(netlink.ROUTE), "wt0", {OWN!r})
    await driver.create()
    await driver.configure({DEVICE!r})
    await driver.upsert({{{OTHER!r}: {PEER!r}}})
    print("ready", flush=True)
asyncio.run(main())
input()
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_died_or_hangs_is_replaced(
    host: Namespace, stop: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.agent.drivers.wireguard.uapi.ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr("services.agent.drivers.wireguard.process.END_WITHIN_S", 0.2)
    with_driver(host, create)
    (before,) = servers(host)
    before.send_signal(stop)
    if stop == signal.SIGKILL:
        gone(lambda: servers(host) != [])
        assert host.call(SOCKET.exists)
    with_driver(host, is_new)
    (after,) = servers(host)
    assert after.pid != before.pid


@pytest.mark.parametrize("there_first", ["agent", "driver"])
def test_an_interface_that_the_kernel_still_has_of_a_dead_one_is_waited_for(host: Namespace, there_first: str) -> None:
    host.ip("tuntap", "add", "wt0", "mode", "tun")
    removing = threading.Timer(0.3, host.ip, ("link", "delete", "wt0"))
    removing.start()
    try:
        if there_first == "agent":
            run_on(host, lambda rtnl: mechanism.require_free("wireguard-go", rtnl, "wt0", 51820, ""))
        with_driver(host, is_new)
    finally:
        removing.join()


def test_one_that_hangs_is_waited_for_once_however_many_peers_are_to_be_set(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop waits meanwhile, with permits to withdraw."""
    monkeypatch.setattr("services.agent.drivers.wireguard.uapi.ANSWER_WITHIN_S", 0.2)
    monkeypatch.setattr("services.agent.drivers.wireguard.process.END_WITHIN_S", 0.2)
    peers = {each.public_key: each for each in (replace(PEER, public_key=public(key(n))) for n in range(2, 52))}

    async def scenario(driver: WireGuardGo) -> None:
        await create(driver)
        (server,) = servers(host)
        server.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            errors = await driver.upsert(peers)
            assert time.monotonic() - began < 5.0
        finally:
            server.send_signal(signal.SIGCONT)
        assert errors == dict.fromkeys(peers, f"wireguard-go does not answer at {SOCKET}")
        await driver.destroy()

    with_driver(host, scenario)


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing can be opened meanwhile."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


def test_an_agent_that_can_open_no_more_files_says_so_and_blames_nobody(host: Namespace) -> None:
    async def scenario(driver: WireGuardGo) -> None:
        await driver.create()
        before = servers(host)
        with no_more_files():
            for asked in (driver.observe, driver.create, driver.destroy):
                with pytest.raises(OSError, match="Too many open files") as problem:
                    await asked()
                assert problem.value.errno == errno.EMFILE
            assert await driver.configure(DEVICE) == "wireguard-go cannot be asked: Too many open files"
            assert await driver.delete([OTHER]) == {OTHER: "wireguard-go cannot be asked: Too many open files"}
            assert await driver.stats() == {}
        assert (await driver.observe())[0] is not None
        assert servers(host) == before
        await driver.destroy()

    with_driver(host, scenario)


def test_a_link_whose_socket_is_gone_is_replaced(host: Namespace) -> None:
    """wireguard-go ends when its socket is removed, at a time of its own choosing."""
    with_driver(host, create)
    (before,) = servers(host)
    host.call(SOCKET.unlink)
    with_driver(host, is_new)
    gone(lambda: before in servers(host))
    assert len(servers(host)) == 1


def test_moving_leaves_mark_socket_and_peers_as_they_were(host: Namespace) -> None:
    async def scenario(driver: WireGuardGo) -> None:
        await create(driver)
        listening = Path("/proc/thread-self/net/udp").read_text()
        await driver.move()
        assert await driver.observe() == (DEVICE, {OTHER: PEER})
        assert Path("/proc/thread-self/net/udp").read_text() == listening

    with_driver(host, scenario)


def test_an_interface_that_others_removed_is_missed_and_made_anew(host: Namespace) -> None:
    async def scenario(driver: WireGuardGo) -> None:
        await create(driver)
        host.ip("link", "del", "wt0")
        assert await driver.observe() == (None, {})
        await is_new(driver)

    with_driver(host, scenario)
    assert len(servers(host)) == 1


def test_the_end_takes_process_interface_and_socket_along_and_comes_once(host: Namespace) -> None:
    async def scenario(driver: WireGuardGo) -> None:
        await create(driver)
        for _ in range(2):
            await driver.destroy()
            assert await driver.observe() == (None, {})
            assert list(SOCKETS.iterdir()) == []

    with_driver(host, scenario)
    assert servers(host) == []
    assert "wt0" not in host.ip("link")


@pytest.mark.parametrize("remove", ["link", "process"])
def test_the_end_comes_also_when_half_is_gone(host: Namespace, remove: str) -> None:
    with_driver(host, create)
    if remove == "link":
        host.ip("link", "del", "wt0")
    else:
        servers(host)[0].kill()
    with_driver(host, WireGuardGo.destroy)
    gone(lambda: servers(host) != [])
    assert "wt0" not in host.ip("link")
    assert host.call(SOCKET.exists) is False


@pytest.mark.parametrize("made", ["link add wt0 type bridge", "tuntap add wt0 mode tun", "tuntap add wt0 mode tap"])
def test_an_interface_of_somebody_else_is_left_alone(host: Namespace, made: str) -> None:
    host.ip(*made.split())

    async def scenario(driver: WireGuardGo) -> None:
        with pytest.raises(MechanismMissing, match="choose another with --interface"):
            await driver.create()
        await driver.destroy()

    with_driver(host, scenario)
    assert "wt0" in host.ip("link")


def test_a_wireguard_of_another_network_namespace_is_left_alone(make_host: MakeHost, host: Namespace) -> None:
    """Two hosts that share /run/wireguard, as containers may."""
    sharing = Namespace(make_host().name, host.wireguard)
    with_driver(host, create)
    before = servers(host)

    async def scenario(driver: WireGuardGo) -> None:
        with pytest.raises(MechanismMissing, match="in another network namespace"):
            await driver.create()
        await driver.destroy()

    try:
        with_driver(sharing, scenario)
    finally:
        sharing.leave()
    assert servers(host) == before
    assert host.call(SOCKET.exists)


def test_without_the_program_the_remedy_is_told(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def scenario(driver: WireGuardGo) -> None:
        with pytest.raises(MechanismMissing, match="apt install wireguard-go"):
            await driver.create()

    with_driver(host, scenario)


def test_a_start_that_fails_tells_how_to_see_why(
    host: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wireguard-go").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))

    async def scenario(driver: WireGuardGo) -> None:
        with pytest.raises(MechanismMissing, match="ended with 1: see what `LOG_LEVEL=error wireguard-go -f wt0` says"):
            await driver.create()

    with_driver(host, scenario)


def test_the_probe_makes_nothing_and_names_what_works(host: Namespace) -> None:
    before = host.ip("link")
    assert host.call(mechanism.probe) in ("kernel", "wireguard-go")
    assert host.ip("link") == before


def test_the_probe_tells_the_remedy_for_what_is_missing(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "run as root" in missing(host, "services.agent.drivers.wireguard.mechanism", "probe")
    if host.call(mechanism.probe) == "kernel":
        pytest.skip("nothing is missing: this kernel has WireGuard")
    with monkeypatch.context() as without:
        without.setenv("PATH", "/nowhere")
        with pytest.raises(MechanismMissing, match="load it, or apt install wireguard-go"):
            host.call(mechanism.probe)
    monkeypatch.setattr(mechanism, "TUN", Path("/dev/net/nothing"))
    with pytest.raises(MechanismMissing, match="load one of the modules wireguard and tun"):
        host.call(mechanism.probe)


@pytest.mark.parametrize("underlay", ["192.0.2", "2001:db8:"])
def test_two_hosts_reach_each_other_through_their_tunnels(make_host: MakeHost, underlay: str) -> None:
    """Over an underlay of either family, with overlay addresses of both."""
    hosts = [make_host(), make_host()]
    connect(hosts[0], "eth0", hosts[1], "eth0")
    keys = [key(1), key(2)]
    v6 = underlay.endswith(":")
    for number, host in enumerate(hosts):
        address(host, "eth0", f"{underlay}:{number + 1}/64" if v6 else f"{underlay}.{number + 1}/24")
    for number, host in enumerate(hosts):
        other = 1 - number
        outside = f"[{underlay}:{other + 1}]:51820" if v6 else f"{underlay}.{other + 1}:51820"
        run_on(host, tunnel_to(keys[number], number + 1, public(keys[other]), other + 1, outside))
    for family, overlay in ((socket.AF_INET, "100.64.0.2"), (socket.AF_INET6, "fd00:1::2")):
        answering = hosts[1].submit(echo_once, family, overlay)
        assert hosts[0].call(ask, family, overlay) == b"hello"
        answering.result()

    async def stats(driver: WireGuardGo) -> None:
        (counted,) = (await driver.stats()).values()
        assert counted.last_handshake > time.time() - 60
        assert counted.rx_bytes > 0
        assert counted.tx_bytes > 0

    with_driver(hosts[0], stats)


def tunnel_to(
    own: str, number: int, peer: str, other: int, endpoint: str
) -> Callable[[Netlink], Coroutine[Any, Any, None]]:
    async def scenario(rtnl: Netlink) -> None:
        driver, links = WireGuardGo(rtnl, "wt0", own), Links(rtnl, "wt0")
        await driver.create()
        addresses = frozenset({f"100.64.0.{number}/16", f"fd00:1::{number}/64"})
        link = Link(name="wt0", mtu=1280, up=True, addresses=addresses)
        entry = WireGuardPeer(
            public_key=peer,
            allowed_ips=frozenset({f"100.64.0.{other}/32", f"fd00:1::{other}/128"}),
            endpoint=endpoint,
        )
        assert await links.upsert({"wt0": link}) == {}
        device = WireGuardDevice(public_key=public(own), listen_port=51820, fwmark=CONTROL_MARK)
        assert await driver.configure(device) is None
        assert await driver.upsert({peer: entry}) == {}
        assert await links.observe() == {"wt0": link}

    return scenario


def echo_once(family: socket.AddressFamily, overlay: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as listening:
        listening.settimeout(LIMIT_S)
        listening.bind((overlay, 7))
        data, sender = listening.recvfrom(100)
        listening.sendto(data, sender)


def ask(family: socket.AddressFamily, overlay: str) -> bytes:
    """The answer, asked for again while the first handshake is under way."""
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            asking.sendto(b"hello", (overlay, 7))
            try:
                return asking.recv(100)
            except (TimeoutError, ConnectionRefusedError):
                continue
    return b""
