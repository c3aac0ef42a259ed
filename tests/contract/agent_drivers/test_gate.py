"""drivers/nft.py: the gate for new connections, on the real kernel."""

import asyncio
import errno
import socket
import time
from collections.abc import Iterable

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.firewall.ruleset import change
from services.agent.core.intervals import parse
from services.agent.core.reconcile.desired import desired
from services.agent.drivers.nft import Nft
from tests.contract.agent_drivers.test_nft import nft, on
from tests.contract.agent_drivers.test_packets import address, cable
from tests.support.netns import MakeHost
from tests.unit.agent import make

pytestmark = pytest.mark.root

WITHIN_S = 5.0
TABLE = desired(make.documents(), make.local()).ruleset
NETWORKS = [
    "10.1.0.0/16",
    "10.2.0.0/16",
    "10.1.7.0/24",
    "192.0.2.1/32",
    "255.255.255.255/32",
    "2001:db8::/32",
    "ffff::/16",
]
LISTED = {
    "held_v4": {"10.1.0.0-10.2.255.255", "192.0.2.1", "255.255.255.255"},
    "held_v6": {"2001:db8::/32", "ffff::/16"},
}


def held() -> dict[str, set[str]]:
    found = {}
    for name in LISTED:
        listing = nft(f"list set inet whimbrel {name}")
        _, _, elements = listing.partition("elements = {")
        found[name] = {one.split()[0] for one in elements.partition("}")[0].split(",") if one.strip()}
    return found


async def written(driver: Nft) -> None:
    assert TABLE is not None
    assert await driver.replace(TABLE) is None


async def hold(driver: Nft, networks: Iterable[str], for_s: float) -> None:
    assert await driver.hold([parse(one) for one in networks], for_s) is None


def test_what_is_held_is_these_prefixes_and_no_others_and_no_comparison_sees_it(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await written(driver)
        for networks, listed in ((NETWORKS, LISTED), (["0.0.0.0/0"], {"held_v4": {"0.0.0.0/0"}, "held_v6": set()})):
            await hold(driver, networks, 60.0)
            assert held() == listed
            assert TABLE is not None
            for reader in (driver, Nft()):
                assert change(TABLE, await reader.observe()) is None
        await hold(driver, (), 0.0)
        assert held() == {"held_v4": set(), "held_v6": set()}

    on(host, scenario)


def test_the_kernel_opens_the_gate_by_itself(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await written(driver)
        await hold(driver, NETWORKS, 0.05)
        await asyncio.sleep(0.2)
        assert held() == {"held_v4": set(), "held_v6": set()}

    on(host, scenario)


def test_without_a_table_nothing_is_held_and_the_reason_is_given(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        assert await driver.hold([parse("10.0.0.0/8")], 1.0)

    on(host, scenario)


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_opened_once_the_gate_is_and_those_there_are_go_on(version: int, make_host: MakeHost) -> None:
    client, far = make_host(), make_host()
    cable(client, "wt0", far, "wt0")
    for host in (client, far):  # no neighbours to ask for, as in a tunnel
        host.ip("link", "set", "wt0", "arp", "off", "address", "02:00:00:00:00:01")
    there = "10.9.0.2" if version == 4 else "fd09::2"
    address(client, "wt0", "10.9.0.1/24", "fd09::1/64")
    address(far, "wt0", "10.9.0.2/24", "fd09::2/64")
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    listener = far.call(socket.create_server, (there, 80), family=family)
    listener.settimeout(WITHIN_S)

    def connection() -> socket.socket:
        made = client.call(socket.socket, family)
        made.setblocking(False)
        assert made.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        return made

    async def scenario(driver: Nft) -> None:
        await written(driver)

    on(client, scenario)
    first = connection()
    theirs, _ = listener.accept()
    theirs.settimeout(WITHIN_S)

    async def shut(driver: Nft) -> None:
        await hold(driver, [f"{there}/{32 if version == 4 else 128}"], 60.0)

    async def open_(driver: Nft) -> None:
        await hold(driver, (), 0.0)

    on(client, shut)
    second = connection()
    first.sendall(b"goes on")
    assert theirs.recv(20) == b"goes on"
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.accept()
    on(client, open_)
    listener.settimeout(WITHIN_S)
    began = time.monotonic()
    accepted, _ = listener.accept()
    assert time.monotonic() - began < WITHIN_S
    for one in (first, second, theirs, accepted, listener):
        one.close()
