"""The overlay interface as a link: MTU, up or down, and its addresses."""

import contextlib
import errno
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from services.agent.core.kernel import Link
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    ADDRESS,
    IFA_ADDRESS,
    IFA_F_NODAD,
    IFA_FLAGS,
    IFA_LOCAL,
    IFF_UP,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    LINK,
    RT_SCOPE_LINK,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    index_of,
    pack_prefix,
    prefix_text,
)

IPV6_SETTINGS = Path("/proc/sys/net/ipv6/conf")


class Links:
    """Driver of one interface, which the WireGuard driver makes.

    IPv6 link-local addresses are the kernel's own and neither shown nor removed.
    """

    def __init__(self, rtnl: Netlink, name: str) -> None:
        self._rtnl = rtnl
        self._name = name

    async def observe(self) -> dict[str, Link]:
        link = find(self._rtnl, self._name)
        if link is None:
            return {}
        addresses = frozenset(address for address, _ in self._addresses(link.ifindex))
        return {self._name: Link(name=self._name, mtu=link.mtu, up=bool(link.flags & IFF_UP), addresses=addresses)}

    async def upsert(self, entries: Mapping[str, Link]) -> dict[str, str]:
        """Set MTU, addresses and state; one that fails does not stop the others. Name → errors."""
        errors: dict[str, str] = {}
        for name, entry in entries.items():
            index = index_of(name)
            refused = ["there is no such interface"] if index is None else self._set(index, entry)
            if refused:
                errors[name] = "; ".join(refused)
        return errors

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove the interface, which ends a wireguard-go behind it. Name → error."""
        refused = {name: remove(self._rtnl, name) for name in keys}
        return {name: problem.text for name, problem in refused.items() if problem}

    def _set(self, index: int, entry: Link) -> list[str]:
        if any(":" in address for address in entry.addresses):
            with contextlib.suppress(OSError):  # an interface from when IPv6 was switched off has it off for itself
                (IPV6_SETTINGS / entry.name / "disable_ipv6").write_text("0")
        mtu = LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + netlink.u32(IFLA_MTU, entry.mtu)
        state = LINK.pack(socket.AF_UNSPEC, 0, index, IFF_UP if entry.up else 0, IFF_UP)
        held = self._addresses(index)
        # Removed first: IPv6 refuses an address that the interface has with another length, and removing the first
        # address of an IPv4 subnet takes the others along.
        steps = [
            (f"mtu {entry.mtu}", Request(RTM_NEWLINK, 0, mtu)),
            *((f"address {old}", Request(RTM_DELADDR, 0, body)) for old, body in held if old not in entry.addresses),
            *((f"address {address}", self._address(index, address)) for address in sorted(entry.addresses)),
            ("up" if entry.up else "down", Request(RTM_NEWLINK, 0, state)),
        ]
        refused = self._rtnl.apply([request for _, request in steps])
        return [
            f"{steps[number][0]}: {problem.text}"
            for number, problem in sorted(refused.items())
            if problem.number != errno.EADDRNOTAVAIL  # removed by somebody else
        ]

    def _address(self, index: int, address: str) -> Request:
        family, packed, length = pack_prefix(address)
        body = ADDRESS.pack(family, length, 0, 0, index)
        body += netlink.attribute(IFA_LOCAL, packed) + netlink.attribute(IFA_ADDRESS, packed)
        if family == socket.AF_INET6:
            # Nobody shares the tunnel's link, so there is no duplicate to detect and the address is ours at once.
            body += netlink.u32(IFA_FLAGS, IFA_F_NODAD)
        return Request(RTM_NEWADDR, netlink.F_CREATE | netlink.F_REPLACE, body)

    def _addresses(self, index: int) -> list[tuple[str, bytes]]:
        """Address with length, and the message that describes it to the kernel."""
        listed = self._rtnl.dump(Request(RTM_GETADDR, 0, ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, index)))
        if isinstance(listed, Refusal):
            if listed.number == errno.ENODEV:
                return []
            raise OSError(listed.number, listed.text)
        found = []
        for message in listed:
            family, length, _, scope, owner = ADDRESS.unpack_from(message.body)
            attributes = netlink.attributes(message.body[ADDRESS.size :])
            if owner == index and not (family == socket.AF_INET6 and scope == RT_SCOPE_LINK):
                packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
                found.append((prefix_text(family, packed, length), bytes(message.body)))
        return found


class Found(NamedTuple):
    """An interface. kind: "tun", "wireguard", …, "" for hardware and loopback."""

    ifindex: int
    flags: int
    mtu: int
    kind: str


def find(rtnl: Netlink, name: str) -> Found | None:
    """The interface of that name, None when there is none."""
    body = LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, name)
    answer = rtnl.get(Request(RTM_GETLINK, 0, body))
    if isinstance(answer, Refusal):
        if answer.number == errno.ENODEV:
            return None
        raise OSError(answer.number, answer.text)
    _, _, index, flags, _ = LINK.unpack_from(answer.body)
    attributes = netlink.attributes(answer.body[LINK.size :])
    info = netlink.attributes(attributes.get(IFLA_LINKINFO, memoryview(b"")))
    kind = netlink.read_text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else ""
    return Found(index, flags, netlink.read_u32(attributes[IFLA_MTU]), kind)


def remove(rtnl: Netlink, name: str) -> Refusal | None:
    """Remove an interface; one that is not there counts as removed."""
    body = LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + netlink.text(IFLA_IFNAME, name)
    refused = rtnl.apply([Request(RTM_DELLINK, 0, body)]).get(0)
    return None if refused and refused.number == errno.ENODEV else refused
