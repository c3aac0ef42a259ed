"""What of this host decides whether it can carry anything: the overlay interface, its networks, its settings."""

from collections.abc import Iterable
from pathlib import Path

from services.agent.core.ha.candidacy import DeviceState
from services.agent.core.intervals import Network, parse
from services.agent.drivers import rtnl_links, sysctl
from services.agent.drivers.addresses import addresses
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl import IFF_UP

LOOPBACK = "lo"


class Gateway:
    """overlay: our interface."""

    def __init__(self, rtnl: Netlink, overlay: str, root: Path = sysctl.PROC_SYS) -> None:
        self._rtnl = rtnl
        self._overlay = overlay
        self._root = root

    def device(self) -> DeviceState:
        """How the overlay interface is."""
        link = rtnl_links.find(self._rtnl, self._overlay)
        if link is None:
            return "gone"
        return "up" if link.flags & IFF_UP else "down"

    def networks(self) -> frozenset[Network]:
        """Those that other interfaces than the overlay's have addresses in, link-local ones left out."""
        found = (one for one in addresses(self._rtnl) if one.interface not in (LOOPBACK, self._overlay))
        return frozenset(network for one in found if not (network := parse(one.address)).is_link_local)

    def settings(self, paths: Iterable[str]) -> dict[str, str]:
        """Path → value of those that the kernel has."""
        return sysctl.read(paths, self._root)
