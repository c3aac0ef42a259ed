"""Where this host says that it may be reached, as its addresses and the overlay change."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from services.agent.core.desired import Local
from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats
from services.agent.core.tunnel import PathBook
from services.agent.core.whereabouts import InterfaceAddress, Whereabouts
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
INSIDE = InterfaceAddress(interface="eth1", address="100.64.3.1/24")


class Host:
    """addresses: what the kernel lists, None while it cannot be read."""

    def __init__(self, *addresses: InterfaceAddress) -> None:
        self.addresses: tuple[InterfaceAddress, ...] | None = addresses
        self.read = 0
        self.book = PathBook("own")
        local = Local(public_key="own", listen_port=51820, interface="wt0")
        self.paths = Paths(self.book, local, self._list, self._stats, self._introduce, lambda _: None, lambda: None)

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

    async def _introduce(self, peer_id: str, answer_wanted: bool) -> None: ...


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
