"""The resolver of a host, asked from the host itself, from a container on it and from its LAN, on real interfaces."""

import asyncio

import dns.exception
import dns.message
import dns.query
import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace, address, connect
from services.agent.core.dns.learned import LearnedBefore
from services.agent.core.reconcile.desired import Local
from services.agent.dns.exchange import Exchange
from services.agent.dns.learning import Learning
from services.agent.dns.local import LocalDns
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.netlink import Netlink
from services.agent.situation import Addresses, Situation
from shared.events.documents import DnsRecord
from tests.contract.agent_drivers.conftest import run_on
from tests.support.bus import eventually
from tests.support.netns import MakeHost
from tests.unit.agent.make import documents, key, me, settings, zone

pytestmark = pytest.mark.root

OVERLAY, OWN = "100.64.0.0/16", "100.64.0.7"


class Kept:
    value = LearnedBefore()

    def keep(self, value: LearnedBefore) -> None:
        self.value = value


def gets_an_answer(tcp: bool) -> bool:
    query = dns.message.make_query("db.z.test", "A")
    try:
        (dns.query.tcp if tcp else dns.query.udp)(query, OWN, timeout=0.5)
    except (dns.exception.Timeout, EOFError, OSError):
        return False
    return True


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_this_host_and_its_containers_are_answered_and_its_lan_is_not(make_host: MakeHost, tcp: bool) -> None:
    host, neighbour, container = make_host(), make_host(), make_host()
    host.ip("tuntap", "add", "wt0", "mode", "tun")
    host.ip("link", "set", "wt0", "up")
    address(host, "wt0", f"{OWN}/16")
    connect(host, "eth0", neighbour, "eth0")
    address(host, "eth0", "192.0.2.7/24")
    address(neighbour, "eth0", "192.0.2.8/24")
    neighbour.ip("route", "add", OWN, "via", "192.0.2.7")
    host.ip("link", "add", "docker0", "type", "bridge")
    host.ip("link", "set", "docker0", "up")
    address(host, "docker0", "172.17.0.1/16")
    connect(host, "veth1", container, "eth0")
    host.ip("link", "set", "veth1", "master", "docker0")
    address(container, "eth0", "172.17.0.2/16")
    container.ip("route", "add", "default", "via", "172.17.0.1")

    async def scenario(rtnl: Netlink) -> dict[str, bool]:
        situation = Situation(Local(public_key=key("me"), listen_port=51820, ipv6=False))
        own = zone("own", DnsRecord("db.z.test", "A", "10.3.0.9", 60), domain="z.test")
        there = documents(me(v4=OWN, v6=""), settings_doc=settings(overlay_v4=OVERLAY))
        situation.documents.set(replace(there, zones={own.zone_id: own}))
        situation.addresses.set(Addresses(where=whereabouts(rtnl, ())))
        local = LocalDns(situation, Exchange(), Learning(situation, Kept()))
        running = asyncio.create_task(local.run())
        try:
            await eventually(lambda: situation.dns.value.address == OWN)
            askers: dict[str, Namespace] = {"itself": beside, "container": container, "LAN": neighbour}
            return {who: await asyncio.wrap_future(asker.submit(gets_an_answer, tcp)) for who, asker in askers.items()}
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    beside = Namespace(host.name, host.wireguard)
    try:
        assert run_on(host, scenario) == {"itself": True, "container": True, "LAN": False}
    finally:
        beside.leave()
