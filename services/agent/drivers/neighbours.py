"""Asks in a LAN who has an address, and says that this host has it: a packet socket on one interface.

The kernel's filter hands on nothing but what other hosts say of that address.
"""

import ctypes
import socket
import struct
from collections.abc import Mapping

from services.agent.core.firewall.returned import RETURNED
from services.agent.core.ha.neighbours import announcement, claimed_by, filter_of, protocol, question
from services.agent.core.kernel import NFT_TABLE, Count, RuleName
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink, Refusal, Request
from services.agent.drivers.nft_counts import counts
from services.agent.drivers.rtnl import IFLA_IFNAME, IFLA_STATS64, LINK, RTM_GETLINK
from services.agent.drivers.rtnl_floating import FloatingAddresses

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
ARPHRD_ETHER = 1  # linux/if_arp.h
FRAME = 2048
AT_ONCE = 64
"""Frames; the rest is read in the next turn of the loop, so that a loud LAN holds nothing else up."""


class NoEthernet(OSError):
    """The interface has no hosts that could be asked."""


class Neighbours:
    """The other hosts of the LAN behind an interface, as far as they speak of one address.

    source: a link-local address of the interface, "" for IPv4 or where it has none. Raises OSError where there is no
    such interface, and NoEthernet.
    """

    def __init__(self, interface: str, address: str, source: str) -> None:
        self._address, self._source = address, source
        kinds = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Without a protocol it hears nothing until the filter is there.
        self._socket = socket.socket(socket.AF_PACKET, kinds, 0)
        try:
            program = ctypes.create_string_buffer(filter_of(address))
            attached = struct.pack("HP", (len(program) - 1) // 8, ctypes.addressof(program))
            self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
            self._socket.bind((interface, protocol(address)))
            _, _, _, kind, self.mac = self._socket.getsockname()
            if kind != ARPHRD_ETHER:
                raise NoEthernet(f"{interface} is no Ethernet")
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_there(self) -> bool:
        """Whether the interface still is: another one of its name is another one."""
        return bool(self._socket.getsockname()[0])

    def close(self) -> None:
        self._socket.close()

    def ask(self, to: str) -> None:
        """Ask who has the address. to: MAC of one host, "" for all of them."""
        self._send(question(self._address, self.mac, self._source, bytes.fromhex(to) if to else None))

    def announce(self) -> None:
        """Tell everybody that this host has it. Whoever has it routes."""
        self._send(announcement(self._address, self.mac, routes=True))

    def heard(self) -> list[str]:
        """The MACs, in hexadecimal, of other hosts that said since then that they have it; a part where many did."""
        found: list[str] = []
        for _ in range(AT_ONCE):
            try:
                frame = self._socket.recv(FRAME)
            except OSError:  # nothing is left, or the interface is down or gone
                break
            mac = claimed_by(frame, self._address)
            if mac is not None and mac != self.mac:
                found.append(mac.hex())
        return found

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError:
            return  # an interface that is down, gone or full asks nobody, and nobody answers


class Lans:
    """The LANs of this host."""

    def __init__(self, rtnl: Netlink) -> None:
        self._rtnl = rtnl
        self._netfilter = Netlink(netlink.NETFILTER)
        self.held = FloatingAddresses(rtnl).observe
        self.neighbours = Neighbours

    def received(self, interface: str) -> int:
        """How many packets have come in there; 0 where that cannot be read."""
        try:
            return received(self._rtnl, interface)
        except OSError:
            return 0

    def sent_by_clients(self) -> Mapping[RuleName, Count]:
        """What the rules of core/firewall/returned.py have counted; nothing where that cannot be read."""
        try:
            return counts(self._netfilter, NFT_TABLE, RETURNED)
        except OSError:
            return {}


def received(rtnl: Netlink, interface: str) -> int:
    """How many packets the interface has received; 0 where there is none."""
    answer = rtnl.get(
        Request(RTM_GETLINK, 0, LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, interface))
    )
    if isinstance(answer, Refusal):
        return 0
    stats = netlink.attributes(answer.body[LINK.size :]).get(IFLA_STATS64)
    return int(struct.unpack_from("=Q", stats)[0]) if stats is not None else 0
