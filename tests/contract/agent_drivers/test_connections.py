"""drivers/sockdiag.py and conntrack.py: which connections there are, and their end, on the real kernel."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.kernel import Hook, NftChain, Ruleset
from services.agent.core.rule import Connection, Rule
from services.agent.drivers import netlink, sysctl
from services.agent.drivers.conntrack import Conntrack
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.sockdiag import TcpSockets
from tests.contract.agent_drivers.conftest import missing
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

WITHIN_S = 5.0
HERE = {4: "10.9.0.1", 6: "fd09::1"}
ELSEWHERE = {4: "10.9.0.99", 6: "fd09::99"}
THERE = {4: "10.9.0.2", 6: "fd09::2"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Pair(NamedTuple):
    """Two hosts with a cable between them; `here` tracks connections and has two addresses of either family."""

    here: Namespace
    there: Namespace

    def listener(self, version: int) -> socket.socket:
        made = self.there.call(socket.socket, FAMILY[version], socket.SOCK_STREAM)
        made.settimeout(WITHIN_S)
        made.bind((THERE[version], 0))
        made.listen()
        return made

    def sockets(self) -> TcpSockets:
        return TcpSockets(partial(self.here.call, Netlink, netlink.SOCK_DIAG))

    def conntrack(self) -> Conntrack:
        connect = partial(self.here.call, Netlink, netlink.NETFILTER)
        return Conntrack(connect, lambda paths: self.here.call(sysctl.read, paths))


@pytest.fixture
def pair(make_host: MakeHost) -> Pair:
    here, there = make_host(), make_host()
    connect(here, "eth0", there, "eth0")
    for addresses, host in ((HERE, here), (ELSEWHERE, here), (THERE, there)):
        for version, prefix in addresses.items():
            address(host, "eth0", f"{prefix}/{24 if version == 4 else 64}")
    here.call(asyncio.run, _track())
    return Pair(here, there)


async def _track() -> None:
    rule = Rule((Connection("related"),), "accept")
    chain = NftChain(name="tracking", hook=Hook("filter", "prerouting", -300), rules=(rule,))
    assert await Nft("tracking").replace(Ruleset(chains=(chain,))) is None


def opened(
    pair: Pair, listener: socket.socket, version: int, source: str, *, both: bool = False
) -> tuple[socket.socket, socket.socket]:
    """Either end of a connection. both: the socket here is one for both families."""
    made = pair.here.call(socket.socket, socket.AF_INET6 if both else FAMILY[version], socket.SOCK_STREAM)
    made.settimeout(WITHIN_S)
    mapped = "::ffff:" if both and version == 4 else ""
    made.bind((mapped + source, 0))
    made.connect((mapped + THERE[version], listener.getsockname()[1]))
    accepted, _ = listener.accept()
    accepted.settimeout(WITHIN_S)
    return made, accepted


def number(text: str) -> int:
    return int(ip_address(text))


@pytest.mark.parametrize(("version", "both"), [(4, False), (4, True), (6, False), (6, True)])
def test_a_connection_of_an_address_is_found_and_ended_on_both_sides(pair: Pair, version: int, both: bool) -> None:
    with pair.listener(version) as listener:
        mine, theirs = opened(pair, listener, version, HERE[version], both=both)
        others = opened(pair, listener, version, ELSEWHERE[version], both=both)
        sockets = pair.sockets()
        (found,) = sockets.of([HERE[version]])
        assert (found.version, found.destination, found.port) == (
            version,
            number(THERE[version]),
            listener.getsockname()[1],
        )
        assert sockets.end([found]) == 1
        with pytest.raises(ConnectionAbortedError):
            mine.recv(1)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        others[0].send(b"still here")
        assert others[1].recv(20) == b"still here"
        assert sockets.end([found]) == 0, "it is gone already"
        assert sockets.of([HERE[version]]) == []


def test_whoever_waits_to_send_is_woken_too(pair: Pair) -> None:
    """An upload whose other side takes nothing any more."""
    with pair.listener(4) as listener:
        mine, _ = opened(pair, listener, 4, HERE[4])
        said: list[int | None] = []
        sending = Thread(target=_send, args=(mine, said))
        sending.start()
        _until(pair, lambda one: one.sending)
        sockets = pair.sockets()
        assert sockets.end(sockets.of([HERE[4]])) == 1
        sending.join(WITHIN_S)
        assert said == [errno.ECONNABORTED]


def _send(one: socket.socket, said: list[int | None]) -> None:
    try:
        one.sendall(bytes(64 << 20))
    except OSError as problem:
        said.append(problem.errno)


def test_what_a_connection_does_is_told(pair: Pair) -> None:
    with pair.listener(4) as listener:
        mine, theirs = opened(pair, listener, 4, HERE[4])
        theirs.send(b"question")
        assert mine.recv(20) == b"question"
        (idle,) = pair.sockets().of([HERE[4]])
        assert (idle.sending, idle.unread) == (False, False)
        theirs.send(b"question")
        (asked,) = _until(pair, lambda one: one.unread)
        assert not asked.sending
        assert asked.received_ms <= 1000


def _until(pair: Pair, holds: Callable[[Socket], bool]) -> list[Socket]:
    for _ in range(1000):
        found = pair.sockets().of([HERE[4]])
        if all(map(holds, found)):
            return found
        time.sleep(0.005)
    raise AssertionError(found)


@pytest.mark.parametrize("version", [4, 6])
def test_connections_are_found_by_who_began_them_and_forgotten(pair: Pair, version: int) -> None:
    with pair.listener(version) as listener:
        mine, theirs = opened(pair, listener, version, HERE[version])
        opened(pair, listener, version, ELSEWHERE[version])
        conntrack = pair.conntrack()
        (found,) = conntrack.begun_by([HERE[version]])
        assert (found.version, found.protocol, found.state) == (version, 6, "open")
        assert (found.source, found.destination) == (number(HERE[version]), number(THERE[version]))
        assert 0 <= found.idle_s <= 5
        assert _ends(conntrack.tcp()) == {
            (number(HERE[version]), number(THERE[version])),
            (number(ELSEWHERE[version]), number(THERE[version])),
        }
        assert conntrack.forget([found]) == 1
        assert conntrack.begun_by([HERE[version]]) == []
        assert conntrack.forget([found]) == 0, "it is forgotten already"
        assert len(conntrack.begun_by([ELSEWHERE[version]])) == 1
        mine.close()
        theirs.close()


def test_idleness_follows_the_time_outs_that_are_set_here(pair: Pair) -> None:
    """A host that keeps connections for a shorter time has none that look idle while they are not."""
    setting = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")
    pair.here.call(setting.write_text, "3600")
    with pair.listener(4) as listener:
        mine, theirs = opened(pair, listener, 4, HERE[4])
        (found,) = pair.conntrack().tcp()
        assert 0 <= found.idle_s <= 5
        mine.close()
        theirs.close()


def _ends(flows: list[Flow]) -> set[tuple[int, int]]:
    return {(one.source, one.destination) for one in flows}


def test_datagrams_are_connections_too(pair: Pair) -> None:
    sender = pair.here.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((HERE[4], 0))
    sender.sendto(b"hello", (THERE[4], 9))
    conntrack = pair.conntrack()
    (found,) = conntrack.begun_by([HERE[4]])
    assert (found.protocol, found.state) == (17, "")
    assert conntrack.tcp() == []
    assert conntrack.forget([found]) == 1
    sender.close()


def test_a_connection_that_is_asked_for_is_opening(pair: Pair) -> None:
    """Nobody answers: the address is on the cable, and no host has it."""
    pair.here.ip("neigh", "add", "10.9.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0")
    asking = pair.here.call(socket.socket)
    asking.setblocking(False)
    assert asking.connect_ex(("10.9.0.77", 80)) == errno.EINPROGRESS
    (found,) = pair.conntrack().tcp()
    assert (found.state, found.destination) == ("opening", number("10.9.0.77"))
    assert pair.sockets().of([HERE[4], ELSEWHERE[4]]) == []
    asking.close()


def test_without_rights_the_remedy_is_named(pair: Pair) -> None:
    assert missing(pair.here, "tests.contract.agent_drivers.test_connections", "list_connections")


def list_connections() -> None:
    Conntrack(partial(Netlink, netlink.NETFILTER)).tcp()
