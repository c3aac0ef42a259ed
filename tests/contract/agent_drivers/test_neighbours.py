"""drivers/neighbours.py on a bridge with two gateways and a host: kernels answer, and the host's cache follows."""

import asyncio
import json

import pytest

from deploy.lab.netns import Namespace, address
from services.agent.core.kernel import FloatingAddress
from services.agent.drivers import netlink
from services.agent.drivers.neighbours import Neighbours, NoEthernet, received
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_floating import FloatingAddresses
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root

FLOATING = {"192.0.2.254": "192.0.2.9", "2001:db8::fe": "2001:db8::9"}


class Lan:
    """A switch with the gateways a and b, and a host."""

    def __init__(self, make_host: MakeHost) -> None:
        self.switch, self.a, self.b, self.host = (make_host() for _ in range(4))
        self.switch.ip("link", "add", "br0", "type", "bridge")
        self.switch.ip("link", "set", "br0", "up")
        for number, one in enumerate((self.a, self.b, self.host)):
            one.ip("link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}", "netns", self.switch.name)
            self.switch.ip("link", "set", f"p{number}", "master", "br0", "up")
            one.ip("link", "set", "eth0", "addrgenmode", "none", "up")
            last = (1, 2, 9)[number]
            address(one, "eth0", f"192.0.2.{last}/24")
            address(one, "eth0", f"2001:db8::{last}/64")
            address(one, "eth0", f"fe80::{last}/64")

    def gives(self, gateway: Namespace, text: str) -> None:
        gateway.call(self._floating, gateway, text, True)

    def takes(self, gateway: Namespace, text: str) -> None:
        gateway.call(self._floating, gateway, text, False)

    def _floating(self, gateway: Namespace, text: str, given: bool) -> None:
        rtnl = Netlink(netlink.ROUTE)
        driver = FloatingAddresses(rtnl)
        entries = {text: FloatingAddress(address=text, interface="eth0")}
        asyncio.run(driver.upsert(entries) if given else driver.delete(entries))
        rtnl.close()

    def on(self, gateway: Namespace, text: str) -> Neighbours:
        return gateway.call(Neighbours, "eth0", text, "fe80::1" if ":" in text else "")

    def cached(self, text: str) -> str:
        """The MAC that the host would send to."""
        entries = json.loads(self.host.ip("-j", "neigh", "show", text, "dev", "eth0"))
        return entries[0].get("lladdr", "").replace(":", "") if entries else ""


@pytest.fixture
async def lan(make_host: MakeHost) -> Lan:
    """Once it carries frames: the kernel tells the switch of a link that came up when it finds the time."""
    lan = Lan(make_host)
    for gateway in (lan.a, lan.b):
        host = lan.on(gateway, FLOATING["192.0.2.254"])
        assert await answered(host)
        host.close()
    return lan


async def answered(neighbours: Neighbours, to: str = "") -> list[str]:
    """Who says that it has the address, asked until somebody does: a kernel joins a new address's group in its time."""
    for _ in range(100):
        neighbours.ask(to)
        if macs := await heard(neighbours, within_s=0.1):
            return sorted(set(macs))
    return []


async def heard(neighbours: Neighbours, *, within_s: float = 2.0) -> list[str]:
    """What is heard until something is, or for so long."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(neighbours.fileno(), readable.set)
    try:
        async with asyncio.timeout(within_s):
            await readable.wait()
    except TimeoutError:
        return []
    finally:
        loop.remove_reader(neighbours.fileno())
    return neighbours.heard()


async def until_quiet(neighbours: Neighbours) -> None:
    """What was asked more than once is answered more than once."""
    while await heard(neighbours, within_s=0.1):
        pass


@pytest.mark.parametrize("text", FLOATING)
@pytest.mark.parametrize("source", ["", "fe80::1"])
async def test_the_kernel_of_who_has_the_address_answers_everybody_and_one(lan: Lan, text: str, source: str) -> None:
    a, b = lan.a.call(Neighbours, "eth0", text, source), lan.on(lan.b, text)
    a.ask("")
    assert await heard(a, within_s=0.3) == [], "nobody has it, and its own question says nothing"
    lan.gives(lan.b, text)
    assert await answered(a) == [b.mac.hex()]
    assert await answered(a, b.mac.hex()) == [b.mac.hex()]
    lan.takes(lan.b, text)
    await until_quiet(a)
    a.ask("")
    a.ask(b.mac.hex())
    assert await heard(a, within_s=0.3) == []
    a.close()
    b.close()


@pytest.mark.parametrize(("text", "from_"), FLOATING.items())
async def test_the_lan_follows_whoever_announces_the_address(lan: Lan, text: str, from_: str) -> None:
    a, b = lan.on(lan.a, text), lan.on(lan.b, text)
    lan.gives(lan.a, text)
    lan.host.call(_send, from_, text)
    assert await _cached(lan, text, a.mac.hex())
    lan.takes(lan.a, text)
    lan.gives(lan.b, text)
    b.announce()
    assert await _cached(lan, text, b.mac.hex())
    assert await heard(a) == [b.mac.hex()], "the other gateway hears it as well"
    a.close()
    b.close()


async def test_a_lan_that_says_much_is_heard_a_part_at_a_time(lan: Lan) -> None:
    a, b = lan.on(lan.a, "192.0.2.254"), lan.on(lan.b, "192.0.2.254")
    for _ in range(70):
        b.announce()
    assert [len(await heard(a)) for _ in range(2)] == [64, 6]
    a.close()
    b.close()


def _send(from_: str, to: str) -> None:
    """Have the host's kernel look for the neighbour."""
    import socket

    with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.bind((from_, 0))
        sending.sendto(b"x", (to, 9))


async def _cached(lan: Lan, text: str, mac: str) -> bool:
    for _ in range(100):
        if lan.cached(text) == mac:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_packets_are_counted_and_an_interface_that_is_none_is_refused(lan: Lan) -> None:
    rtnl = lan.a.call(Netlink, netlink.ROUTE)
    before = received(rtnl, "eth0")
    a = lan.on(lan.a, "192.0.2.9")
    assert await answered(a)
    assert received(rtnl, "eth0") > before
    assert received(rtnl, "eth7") == 0
    rtnl.close()
    a.close()
    lan.a.ip("tuntap", "add", "tun0", "mode", "tun")
    with pytest.raises(NoEthernet):
        lan.a.call(Neighbours, "tun0", "192.0.2.254", "")
    with pytest.raises(OSError, match="No such device"):
        lan.a.call(Neighbours, "eth7", "192.0.2.254", "")


async def test_an_interface_that_goes_down_asks_nobody_and_fails_nothing(lan: Lan) -> None:
    a = lan.on(lan.a, "192.0.2.9")
    lan.a.ip("link", "set", "eth0", "down")
    a.ask("")
    a.announce()
    assert a.heard() == []
    lan.a.ip("link", "set", "eth0", "up")
    assert await answered(a), "it asks again once the interface is up"
    a.close()
