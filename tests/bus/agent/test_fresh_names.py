"""Names that nobody asked for before, through real agents: the first packet to what they lead to arrives (D4)."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect
from shared.events.documents import Permit
from tests.bus.agent.lab import in_step
from tests.bus.agent.pair import OVERLAY, Pair
from tests.bus.agent.plane import ALL, Plane, lan
from tests.support.bus import eventually
from tests.support.dns import DnsServer
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

NAMES = 1000
PORT = 8080
SYN_AGAIN_S = 1.0
"""After this long the kernel sends a SYN again that was lost."""


@pytest.fixture
def resolv_conf() -> Iterator[list[Path]]:
    """Files of hosts, removed afterwards: `ip netns exec` mounts them for what it starts."""
    made: list[Path] = []
    yield made
    for file in made:
        file.unlink()
        file.parent.rmdir()


def name_of(number: int) -> tuple[str, str]:
    """A name, and the address behind the gateway that it leads to."""
    return f"n{number}.corp.test", f"10.78.{number // 250}.{number % 250 + 1}"


async def asked_on(host: Namespace, server: DnsServer) -> None:
    """Have the server answer on the host behind the gateway."""
    listening = host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("10.77.0.2", 53))
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, sock=listening)


@pytest.fixture
async def pair(
    make_host: MakeHost, plane: Plane, tmp_path: Path, resolv_conf: list[Path]
) -> AsyncIterator[tuple[Pair, Namespace]]:
    """left is a client of right, which routes *.corp.test to the host behind it."""
    pair, behind = Pair(make_host, plane, tmp_path, "v4"), make_host()
    file = Path("/etc/netns") / pair.right.name / "resolv.conf"
    file.parent.mkdir(parents=True)
    resolv_conf.append(file)
    file.write_text("nameserver 10.77.0.2\n")
    connect(pair.right, "lan0", behind, "eth0")
    address(pair.right, "lan0", "10.77.0.1/24")
    address(behind, "eth0", "10.77.0.2/24")
    pair.right.ip("route", "add", "10.78.0.0/16", "via", "10.77.0.2")
    behind.ip("route", "add", "local", "10.78.0.0/16", "dev", "lo")
    await pair.start()
    route = replace(
        lan("right"),
        network="",
        domains=("*.corp.test",),
        network_id="corp",
        keep_route=False,
        routing_peers=("right",),
    )
    permit = Permit(rule_id="", action="accept", protocol="all", ports=(), sources=("all",), source_peers=())
    await plane.write("p.right", "r1", replace(route, permits=(permit,)))
    await plane.write(ALL, "r1", route)
    for agent in pair.agents.values():
        await in_step(agent, plane)
    yield pair, behind
    for agent in pair.agents.values():
        await agent.stop()
    await pair.close()


def reach(client: Namespace, name: str, expected: str) -> None:
    """Ask the client's resolver, and connect to what it says before a SYN would be sent again."""
    answer = client.call(dns.query.udp, dns.message.make_query(name, "A"), OVERLAY["left"], timeout=5.0)
    assert [record.to_text() for rrset in answer.answer for record in rrset] == [expected]
    client.call(socket.create_connection, (expected, PORT), SYN_AGAIN_S * 0.9).close()


@pytest.mark.timeout(240)
async def test_d4_of_a_thousand_fresh_names_no_first_syn_is_lost(pair: tuple[Pair, Namespace]) -> None:
    (hosts, behind), server = pair, DnsServer()
    await asked_on(behind, server)
    listening = behind.call(socket.create_server, ("0.0.0.0", PORT), backlog=NAMES)
    server.zone = {name: [f"A {address}"] for name, address in map(name_of, range(NAMES))}

    async def answers() -> bool:
        query = dns.message.make_query("no.corp.test", "A", use_edns=0)
        try:
            answer = await asyncio.to_thread(hosts.left.call, dns.query.udp, query, OVERLAY["left"], timeout=2.0)
        except (OSError, dns.exception.DNSException):
            return False
        return int(answer.rcode()) == 3

    await eventually(answers, within_s=30.0)
    for number in range(NAMES):
        await asyncio.to_thread(reach, hosts.left, *name_of(number))
    listening.close()
