"""Where this host says that it may be reached, as its addresses and the overlay change."""

import time
from collections.abc import Iterable

from msgspec.structs import replace

from services.agent.cells import counted
from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.paths.whereabouts import InterfaceAddress, Whereabouts
from services.agent.core.reconcile.desired import Local
from services.agent.paths import Paths
from services.agent.ports import HostChange
from services.agent.situation import Bus, Situation, Tunnels
from shared.events.documents import PeerDoc, SettingsDoc
from shared.events.signals import Candidates
from tests.support.bus import eventually
from tests.unit.agent_shell.drivers import Device, Table

SETTINGS = SettingsDoc(
    overlay_v4="100.64.0.0/16",
    overlay_v6="fd00:64::/64",
    dns_domain="wb.test",
    forwarder_port=22054,
    routing_peer_dns_resolution=True,
)
PEER = PeerDoc(
    peer_id="p",
    name="p",
    fqdn="p.wb.test",
    wireguard_key="key",
    address_v4="100.64.0.2",
    address_v6="",
    groups=(),
    version="",
)
HOME = InterfaceAddress(interface="eth0", address="192.0.2.7/24")
OTHER = InterfaceAddress(interface="eth2", address="198.51.100.4/24")
INSIDE = InterfaceAddress(interface="eth1", address="100.64.3.1/24")


def connected() -> PeerStats:
    return PeerStats(endpoint="203.0.113.1:51820", last_handshake=time.time(), rx_bytes=1, tx_bytes=1)


class Counting(Device):
    """counters: public key → what it counts. moves: how often it was to send from other addresses."""

    def __init__(self) -> None:
        super().__init__(Table())
        self.counters: dict[str, PeerStats] = {}
        self.moves = 0

    async def stats(self) -> dict[str, PeerStats]:
        return self.counters

    async def move(self) -> None:
        self.moves += 1


def candidates(endpoint: str) -> Candidates:
    return Candidates(session="a", generation=1, endpoints=(endpoint,), answer_wanted=False, sent_at=0.0)


class Host:
    """addresses: what the kernel lists, None while it cannot be read. sent: how many introductions found a bus."""

    def __init__(self, *addresses: InterfaceAddress) -> None:
        self.addresses: tuple[InterfaceAddress, ...] | None = addresses
        self.read = 0
        self.sent = 0
        self.has_bus = True
        self.book = PathBook("own")
        self.device = Counting()
        self.situation = Situation(Local(public_key="own", listen_port=51820, interface="wt0"))
        self.paths = Paths(self.situation, self.book, self, self.device, self._list, lambda: ())

    def follow(self, documents: Documents) -> None:
        self.situation.documents.set(documents)
        self.paths.follow()

    def change(self, *more: HostChange) -> None:
        self.situation.dirty.set(counted(self.situation.dirty.value, ["addresses", *more]))

    async def read_again(self) -> None:
        """Follow until the addresses are read once more."""
        before = self.read

        def followed() -> bool:
            self.paths.follow()
            return self.read > before

        await eventually(followed)

    def begin_session(self) -> None:
        self.situation.bus.set(Bus(standing="connected", sessions=self.situation.bus.value.sessions + 1))
        self.paths.follow()

    def told(self) -> list[str]:
        """What other hosts are told."""
        return list(self.book.local_endpoints)

    def _list(self, remotes: Iterable[str]) -> Whereabouts:
        self.read += 1
        if self.addresses is None:
            raise OSError(105, "No buffer space available")
        return Whereabouts(addresses=self.addresses)

    async def introduce(
        self, receiver: str, endpoints: tuple[str, ...], *, generation: int, answer_wanted: bool
    ) -> bool:
        self.sent += self.has_bus
        return self.has_bus


async def test_the_addresses_are_read_at_first_and_once_for_each_overlay() -> None:
    host = Host(HOME, INSIDE)
    host.follow(Documents())
    assert host.told() == ["192.0.2.7:51820", "100.64.3.1:51820"]
    host.follow(Documents(settings=SETTINGS))
    assert host.told() == ["192.0.2.7:51820"]
    host.follow(Documents(settings=replace(SETTINGS, dns_domain="other.test")))
    assert host.read == 2


async def test_an_address_that_came_is_told_once_it_is_known() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS))
    host.addresses = HOME, InterfaceAddress(interface="eth2", address="198.51.100.4/24")
    host.paths.locate()
    assert host.told() == ["192.0.2.7:51820", "198.51.100.4:51820"]


async def test_addresses_that_cannot_be_read_stay_what_they_were() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS))
    host.addresses = None
    host.paths.locate()
    assert host.told() == ["192.0.2.7:51820"]


async def test_addresses_that_cannot_be_read_are_read_again() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS))
    host.addresses = None
    host.change()
    await host.read_again()
    host.addresses = (OTHER,)
    await host.read_again()
    assert host.told() == ["198.51.100.4:51820"]


async def test_wireguard_moves_once_with_an_address_that_is_gone_and_not_with_one_that_comes() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS))
    await host.paths.step()
    host.addresses = HOME, OTHER
    host.paths.locate()
    await host.paths.step()
    assert host.device.moves == 0
    host.addresses = (OTHER,)
    host.paths.locate()
    for _ in range(2):
        await host.paths.step()
    assert host.device.moves == 1


async def test_wireguard_moves_once_with_an_address_that_went_and_was_back_before_anybody_looked() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS))
    await host.paths.step()
    host.change()
    await host.read_again()
    await host.paths.step()
    assert host.device.moves == 0
    host.change("departed")
    await host.read_again()
    for _ in range(2):
        await host.paths.step()
    assert host.device.moves == 1


async def test_the_first_change_is_looked_at_at_once_and_what_follows_is_gathered() -> None:
    host = Host(HOME)
    for _ in range(5):
        host.change()
        await host.paths.step()
    assert host.read == 1


async def test_what_found_no_bus_is_said_when_there_is_one() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS, peers={"p": parsed.peer(PEER)}))
    host.has_bus = False
    await host.paths.step()
    host.has_bus = True
    host.begin_session()
    await host.paths.step()
    assert host.sent == 1


async def test_the_kernel_loop_is_shown_where_a_peer_is_and_that_it_is_connected() -> None:
    host = Host(HOME)
    host.follow(Documents(settings=SETTINGS, peers={"p": parsed.peer(PEER)}))
    host.paths.hear("p", candidates("203.0.113.1:51820"))
    await host.paths.step()
    assert host.situation.tunnels.value.endpoints == {"key": "203.0.113.1:51820"}
    host.device.counters["key"] = connected()
    await host.paths.step()
    assert host.situation.tunnels.value.connected == {"key"}
    assert host.situation.counters.value == host.device.counters
    host.follow(Documents(settings=SETTINGS))
    await host.paths.step()
    assert host.situation.tunnels.value == Tunnels()


async def test_each_reset_of_a_peer_has_a_number_of_its_own() -> None:
    host = Host(HOME)
    seen: list[int] = []
    for _ in range(2):
        host.follow(Documents(settings=SETTINGS, peers={"p": parsed.peer(PEER)}))
        host.paths.hear("p", candidates("203.0.113.1:51820"))
        host.device.counters = {"key": connected()}
        await host.paths.step()
        host.device.counters = {}
        await host.paths.step()
        seen.append(host.situation.tunnels.value.resets["key"])
        host.follow(Documents(settings=SETTINGS))
        await host.paths.step()
    assert seen[0] != seen[1]


async def test_a_run_begins_with_the_sessions_and_the_endpoints_of_the_last_one() -> None:
    host = Host(HOME)
    other = replace(PEER, peer_id="q", wireguard_key="other")
    peers = {"p": parsed.peer(PEER), "q": parsed.peer(other)}
    host.situation.documents.set(Documents(settings=SETTINGS, peers=peers))
    host.device.counters["key"] = connected()
    await host.paths.begin({"q": "203.0.113.2:51820"})
    assert host.situation.tunnels.value.connected == {"key"}
    assert host.told() == ["192.0.2.7:51820"]
    await host.paths.step()
    assert host.situation.tunnels.value.endpoints["other"] == "203.0.113.2:51820"
