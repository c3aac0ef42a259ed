"""Where this host says that it may be reached, as its addresses and the overlay change."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.paths.whereabouts import InterfaceAddress, Whereabouts
from services.agent.core.reconcile.desired import Local
from services.agent.paths import Paths
from shared.events.documents import SettingsDoc

SETTINGS = SettingsDoc(
    overlay_v4="100.64.0.0/16",
    overlay_v6="fd00:64::/64",
    dns_domain="wb.test",
    forwarder_port=22054,
    routing_peer_dns_resolution=True,
)
HOME = InterfaceAddress(interface="eth0", address="192.0.2.7/24")
OTHER = InterfaceAddress(interface="eth2", address="198.51.100.4/24")
INSIDE = InterfaceAddress(interface="eth1", address="100.64.3.1/24")


class Host:
    """addresses: what the kernel lists, None while it cannot be read."""

    def __init__(self, *addresses: InterfaceAddress) -> None:
        self.addresses: tuple[InterfaceAddress, ...] | None = addresses
        self.read = 0
        self.moves = 0
        self.sent = 0
        self.has_bus = True
        self.book = PathBook("own")
        local = Local(public_key="own", listen_port=51820, interface="wt0")
        self.paths = Paths(
            self.book,
            local,
            self._list,
            self._stats,
            self._introduce,
            self._move,
            lambda before, after: None,
            lambda _: None,
            lambda: None,
        )

    def told(self) -> list[str]:
        """What other hosts are told."""
        return list(self.book.local_endpoints)

    def _list(self, remotes: Iterable[str]) -> Whereabouts:
        self.read += 1
        if self.addresses is None:
            raise OSError(105, "No buffer space available")
        return Whereabouts(addresses=self.addresses)

    async def _stats(self) -> Mapping[str, PeerStats]:
        return {}

    async def _introduce(self, peer_id: str, answer_wanted: bool) -> bool:
        self.sent += self.has_bus
        return self.has_bus

    async def _move(self) -> None:
        self.moves += 1


async def test_the_addresses_are_read_at_first_and_once_for_each_overlay() -> None:
    host = Host(HOME, INSIDE)
    host.paths.follow(Documents())
    assert host.told() == ["192.0.2.7:51820", "100.64.3.1:51820"]
    host.paths.follow(Documents(settings=SETTINGS))
    assert host.told() == ["192.0.2.7:51820"]
    host.paths.follow(Documents(settings=replace(SETTINGS, dns_domain="other.test")))
    assert host.read == 2


async def test_an_address_that_came_is_told_once_it_is_known() -> None:
    host = Host(HOME)
    host.paths.follow(Documents(settings=SETTINGS))
    host.addresses = HOME, InterfaceAddress(interface="eth2", address="198.51.100.4/24")
    host.paths.locate()
    assert host.told() == ["192.0.2.7:51820", "198.51.100.4:51820"]


async def test_addresses_that_cannot_be_read_stay_what_they_were() -> None:
    host = Host(HOME)
    host.paths.follow(Documents(settings=SETTINGS))
    host.addresses = None
    host.paths.locate()
    assert host.told() == ["192.0.2.7:51820"]


async def test_wireguard_moves_once_with_an_address_that_is_gone_and_not_with_one_that_comes() -> None:
    host = Host(HOME)
    host.paths.follow(Documents(settings=SETTINGS))
    await host.paths.step()
    host.addresses = HOME, OTHER
    host.paths.locate()
    await host.paths.step()
    assert host.moves == 0
    host.addresses = (OTHER,)
    host.paths.locate()
    for _ in range(2):
        await host.paths.step()
    assert host.moves == 1


async def test_the_first_change_is_looked_at_at_once_and_what_follows_is_gathered() -> None:
    host = Host(HOME)
    for _ in range(5):
        host.paths.disturbed()
        await host.paths.step()
    assert host.read == 1


async def test_what_found_no_bus_is_said_when_there_is_one() -> None:
    host = Host(HOME)
    host.book.set_peers({"p": "key"}, 0.0)
    host.paths.follow(Documents(settings=SETTINGS))
    host.has_bus = False
    await host.paths.step()
    host.has_bus = True
    host.paths.reconnected()
    await host.paths.step()
    assert host.sent == 1
