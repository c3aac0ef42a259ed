"""Raw sockets for ICMP echo, and connections of TCP, as probes need them: what leaves, by where, and what is heard."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.ha.echo import Echo
from services.agent.core.kernel import CONTROL_MARK
from services.agent.drivers.icmp import Icmp
from services.agent.drivers.tcp_probe import AT_ONCE, TcpProbe
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

T = TypeVar("T")

WITHIN_S = 5.0
ECHO = Echo(b"s" * 32, 4711)
OWN, OTHER = {4: "100.64.0.1", 6: "fd00:64::1"}, {4: "100.64.0.2", 6: "fd00:64::2"}


def first(read: Callable[[], list[T]]) -> list[T]:
    """What is read as soon as there is anything."""
    until = time.monotonic() + WITHIN_S
    while not (found := read()) and time.monotonic() < until:
        time.sleep(0.002)
    return found


def cable(one: Namespace, other: Namespace) -> None:
    """wt0 of either host, with their overlay addresses."""
    connect(one, "wt0", other, "wt0")
    for host, own in ((one, OWN), (other, OTHER)):
        address(host, "wt0", f"{own[4]}/16")
        address(host, "wt0", f"{own[6]}/64")


@pytest.fixture
def other(make_host: MakeHost, host: Namespace) -> Namespace:
    made = make_host()
    cable(host, made)
    return made


@pytest.fixture
def icmp(host: Namespace, other: Namespace) -> Iterator[Icmp]:
    made = host.call(Icmp, 4711, "wt0")
    yield made
    made.close()


@pytest.mark.parametrize("version", [4, 6])
def test_another_kernel_answers_and_the_time_of_its_answer_is_when_it_came_and_not_when_it_is_read(
    version: int, icmp: Icmp
) -> None:
    took = []
    for number in range(10):  # the kernel begins to note times a moment after it was asked to
        asked_at = time.monotonic()
        assert icmp.send(OTHER[version], ECHO.question(OTHER[version], number)) == ""
        time.sleep(0.1)  # the reader is late, which is what this is about
        ((source, message, at),) = icmp.read()
        assert (source, ECHO.answered(source, message)) == (OTHER[version], number)
        took.append(at - asked_at)
    assert min(took) < 0.09


@pytest.mark.parametrize("version", [4, 6])
def test_only_answers_with_ones_own_identifier_are_heard(version: int, host: Namespace, icmp: Icmp) -> None:
    stranger = host.call(Icmp, 4712, "wt0")
    try:
        assert stranger.send(OTHER[version], Echo(b"t" * 32, 4712).question(OTHER[version], 1)) == ""
        assert len(first(stranger.read)) == 1
        assert icmp.send(OTHER[version], ECHO.question(OTHER[version], 2)) == ""
        assert [ECHO.answered(source, message) for source, message, _ in first(icmp.read)] == [2]
    finally:
        stranger.close()


@pytest.mark.parametrize("version", [4, 6])
def test_an_interface_that_was_made_anew_is_used_from_the_next_question_on(
    version: int, host: Namespace, other: Namespace, icmp: Icmp
) -> None:
    question = ECHO.question(OTHER[version], 1)
    assert icmp.send(OTHER[version], question) == ""
    assert first(icmp.read)
    host.ip("link", "delete", "wt0")
    assert icmp.send(OTHER[version], question) == "No such device"
    cable(host, other)
    assert icmp.send(OTHER[version], question) == ""
    assert first(icmp.read)


def test_without_an_interface_questions_go_where_the_hosts_own_routes_lead_and_past_the_overlays(
    host: Namespace, other: Namespace, make_host: MakeHost
) -> None:
    """A rule leads all but what carries CONTROL_MARK into the tunnel, as with an exit in use."""
    lan = make_host()
    connect(host, "lan0", lan, "lan0")
    address(host, "lan0", "192.0.2.1/24")
    address(lan, "lan0", "192.0.2.9/24")
    host.ip("route", "add", "192.0.2.0/24", "dev", "wt0", "table", "7120")
    host.ip("rule", "add", "not", "fwmark", hex(CONTROL_MARK), "table", "7120")
    icmp, tcp = host.call(Icmp, 4711), host.call(TcpProbe)
    try:
        with lan.call(socket.create_server, ("192.0.2.9", 443)):
            assert icmp.send("192.0.2.9", ECHO.question("192.0.2.9", 5)) == ""
            assert [one.source for one in first(icmp.read)] == ["192.0.2.9"]
            assert host.call(tcp.send, "192.0.2.9", 443, 6) == ""
            assert [one.number for one in first(tcp.read)] == [6]
    finally:
        icmp.close()
        tcp.close()


@pytest.fixture
def tcp(host: Namespace, other: Namespace) -> Iterator[TcpProbe]:
    made = host.call(TcpProbe)
    yield made
    made.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_that_is_accepted_is_an_answer_and_ends_with_a_reset(
    version: int, host: Namespace, other: Namespace, tcp: TcpProbe
) -> None:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with other.call(socket.create_server, (OTHER[version], 443), family=family) as server:
        begun = time.monotonic()
        assert host.call(tcp.send, OTHER[version], 443, 7) == ""
        ((there, number, at),) = first(tcp.read)
        assert (there, number) == (OTHER[version], 7)
        assert begun <= at <= time.monotonic()
        accepted, _ = server.accept()
        with accepted:
            accepted.settimeout(WITHIN_S)
            with pytest.raises(ConnectionResetError):
                accepted.recv(1)


def test_a_refused_connection_and_one_that_nobody_answers_are_none(
    host: Namespace, other: Namespace, tcp: TcpProbe
) -> None:
    put = Path("/proc/sys/net/ipv4/conf/wt0/arp_ignore").write_text
    assert host.call(tcp.send, OTHER[4], 444, 1) == ""
    other.call(put, "8")  # answers no question for its link address
    assert host.call(tcp.send, "100.64.0.3", 443, 2) == ""
    with other.call(socket.create_server, (OTHER[4], 443)):
        other.call(put, "0")
        assert host.call(tcp.send, OTHER[4], 443, 3) == ""
        assert [one.number for one in first(tcp.read)] == [3]


def test_connections_under_way_are_bounded(host: Namespace, tcp: TcpProbe) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(AT_ONCE + 50):
        assert host.call(tcp.send, "100.64.0.3", 443, number) == ""
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= AT_ONCE


def test_what_cannot_leave_says_why(host: Namespace, tcp: TcpProbe, icmp: Icmp) -> None:
    assert host.call(tcp.send, "203.0.113.1", 443, 1) == "Network is unreachable"
    host.ip("link", "set", "wt0", "down")
    assert icmp.send(OTHER[4], ECHO.question(OTHER[4], 1)) != ""
