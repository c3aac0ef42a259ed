"""Names of a private network, from the application on a client to the server behind the gateway, on real hosts."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from deploy.lab import intent, probes
from deploy.lab.lab import COMMAND, Lab
from deploy.lab.netns import Namespace
from deploy.lab.processes import running
from deploy.lab.topology import LAN_HOST_V4, LAN_HOST_V6, WEB_PORT
from tests.support.dns import DnsServer
from tests.support.lab import eventually, kill

pytestmark = pytest.mark.timeout(180)

RESOLV_CONF = Path("/etc/netns")
"""`ip netns exec` mounts NAME/resolv.conf of it at /etc/resolv.conf of what it starts."""
NOBODY = "10.99.0.99"
"""A server that the client's network names, and that does not answer."""


class PrivateDns:
    """The DNS server of the private network, in a thread of its own on the LAN host."""

    def __init__(self, lan: Namespace) -> None:
        self._host = Namespace(lan.name, lan.wireguard)
        self.server = DnsServer()
        self._ends: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._running = self._host.submit(asyncio.run, self._serve())

    async def _serve(self) -> None:
        self._loop, self._ends = asyncio.get_running_loop(), asyncio.Event()
        await self.server.start(LAN_HOST_V4, 53, tcp=True)
        await self._ends.wait()
        self.server.stop()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._running.result()
        self._host.leave()


class Names:
    """A lab with a route to names, whose gateway asks the server of its LAN, and whose client asks NOBODY."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.client = lab.topology.client
        self.private: PrivateDns | None = None
        self.v4 = ""

    def build(self) -> None:
        lab = self.lab
        lab.build()
        self.private = PrivateDns(lab.topology.lan)
        for host, server in (("client", NOBODY), ("gateway", LAN_HOST_V4)):
            file = RESOLV_CONF / lab.topology.hosts[host].name / "resolv.conf"
            file.parent.mkdir(parents=True)
            file.write_text(f"nameserver {server}\n")
        clients, gateways = intent.group(lab, "clients"), intent.group(lab, "gateways")
        self.v4 = intent.enrol(lab, "client", clients).v4
        gateway = intent.enrol(lab, "gateway", gateways).id
        intent.only_policy(lab, clients, gateways)
        route = {
            "description": "",
            "network_id": "names",
            "domains": ["db.corp.test", "*.wild.test"],
            "peer": gateway,
            "metric": 100,
            "masquerade": True,
            "enabled": True,
            "keep_route": True,
            "groups": [clients],
        }
        lab.api("POST", "/routes", route)

    @property
    def zone(self) -> dict[str, list[str] | str]:
        """Of the private network's server."""
        assert self.private is not None
        return self.private.server.zone

    def remove(self) -> None:
        if self.private is not None:
            self.private.close()
        self.lab.stop()
        self.lab.remove()
        for host in self.lab.topology.hosts.values():
            (RESOLV_CONF / host.name / "resolv.conf").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (RESOLV_CONF / host.name).rmdir()

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message | None:
        """What the client's own resolver answers, None for nothing."""
        query = dns.message.make_query(name, kind)
        over = dns.query.tcp if tcp else dns.query.udp
        try:
            return self.client.call(over, query, self.v4, timeout=5.0)
        except (dns.exception.Timeout, OSError):
            return None

    def addresses(self, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
        answer = self.ask(name, kind, tcp=tcp)
        return [item.to_text() for one in answer.answer for item in one] if answer is not None else []


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    made = Names(Lab(f"d{os.getpid()}"))
    try:
        made.build()
        yield made
    finally:
        made.remove()


def test_a_name_that_only_the_private_network_knows_is_reached_at_once_d4(names: Names) -> None:
    names.zone["db.corp.test"] = [f"A {LAN_HOST_V4}", f"AAAA {LAN_HOST_V6}"]
    assert eventually(lambda: names.addresses("db.corp.test") == [LAN_HOST_V4])
    assert names.client.call(probes.fetch, LAN_HOST_V4, WEB_PORT, 5.0)
    assert names.addresses("db.corp.test", tcp=True) == [LAN_HOST_V4]


def test_of_fresh_names_the_first_packet_arrives_d4_r7(names: Names) -> None:
    assert eventually(lambda: names.ask("nothing.wild.test") is not None)
    for number in range(20):
        last = 100 + number
        names.zone[f"h{number}.wild.test"] = [f"A 192.168.77.{last}"]
        names.lab.topology.lan.ip("address", "add", f"192.168.77.{last}/32", "dev", "lan")
        assert names.addresses(f"h{number}.wild.test") == [f"192.168.77.{last}"]
        with names.client.call(socket.create_connection, (f"192.168.77.{last}", WEB_PORT), 0.9):
            pass  # a SYN that is lost is sent again after a second


def test_a_name_that_does_not_exist_there_does_not_exist_here(names: Names) -> None:
    assert eventually(
        lambda: (answer := names.ask("none.wild.test")) is not None and answer.rcode() == dns.rcode.NXDOMAIN
    )


def test_a_forwarder_that_dies_is_followed_by_another(names: Names) -> None:
    names.zone["db.corp.test"] = [f"A {LAN_HOST_V4}"]
    [forwarder] = running(names.lab.topology.gateway, "services.agent.forwarder")
    kill(forwarder)
    names.zone["later.wild.test"] = [f"A {LAN_HOST_V4}"]
    assert eventually(lambda: names.addresses("later.wild.test") == [LAN_HOST_V4])


def test_names_work_while_the_control_plane_is_away(names: Names) -> None:
    names.lab.processes.stop(["server"])
    names.zone["alone.wild.test"] = [f"A {LAN_HOST_V4}"]
    assert eventually(lambda: names.addresses("alone.wild.test") == [LAN_HOST_V4])
    assert names.client.call(probes.fetch, LAN_HOST_V4, WEB_PORT, 5.0)


def test_programs_ask_the_hosts_own_resolver_and_people_are_told_why_it_answers_so(names: Names) -> None:
    names.zone["db.corp.test"] = [f"A {LAN_HOST_V4}"]

    def said(*words: str) -> str:
        done = subprocess.run(names.client.command(words), capture_output=True, text=True, timeout=30, check=False)
        return done.stdout

    assert eventually(lambda: LAN_HOST_V4 in said("getent", "ahostsv4", "db.corp.test"))
    told = said(COMMAND, "debug", "dns", "db.corp.test", "--socket", str(names.lab.socket("client")))
    assert LAN_HOST_V4 in told
