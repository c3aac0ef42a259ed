"""Addresses that this host has for a while on an interface that is not ours, besides those that people gave it.

They are known by their metric: both families show it since Linux 4.18, and without a prefix route it means nothing.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping

from services.agent.core.kernel import FloatingAddress
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    ADDRESS,
    AF,
    FLOATING_METRIC,
    IFA_ADDRESS,
    IFA_CACHEINFO,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_FLAGS,
    IFA_LOCAL,
    IFA_RT_PRIORITY,
    NO_FAMILY,
    RT_SCOPE_LINK,
    RTM_DELADDR,
    RTM_GETADDR,
    RTM_NEWADDR,
    address_text,
    index_of,
    is_floating,
    name_of,
    pack_prefix,
)

_FOR_EVER = 0xFFFFFFFF
_NO_SOURCE = struct.pack("=IIII", 0, _FOR_EVER, 0, 0)
"""ifa_cacheinfo: preferred for no time, so that nothing begins a connection from the address."""


class FloatingAddresses:
    """Driver of the addresses of this kind on all interfaces."""

    def __init__(self, rtnl: Netlink) -> None:
        self._rtnl = rtnl

    async def observe(self) -> dict[str, FloatingAddress]:
        return {address: FloatingAddress(address=address, interface=name_of(index)) for address, index in self._held()}

    async def upsert(self, entries: Mapping[str, FloatingAddress]) -> dict[str, str]:
        """Have them where they shall be, and nowhere else. Address → error."""
        elsewhere = {
            (address, index)
            for address, index in self._held()
            if address in entries and name_of(index) != entries[address].interface
        }
        errors = self._remove(elsewhere)
        for address, entry in entries.items():
            index = index_of(entry.interface)
            if index is None:
                errors[address] = f"there is no interface {entry.interface}"
            elif refused := self._rtnl.apply([_add(address, index)]).get(0):
                errors[address] = refused.text
        return errors

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove them from every interface. Address → error."""
        going = set(keys)
        return self._remove((address, index) for address, index in self._held() if address in going)

    def _remove(self, addresses: Iterable[tuple[str, int]]) -> dict[str, str]:
        found = list(addresses)
        refused = self._rtnl.apply([_request(RTM_DELADDR, address, index) for address, index in found])
        gone = (errno.EADDRNOTAVAIL, errno.ENODEV)
        return {found[number][0]: problem.text for number, problem in refused.items() if problem.number not in gone}

    def _held(self) -> Iterator[tuple[str, int]]:
        """Address and index of its interface."""
        for family in AF.values():
            listed = self._rtnl.dump(Request(RTM_GETADDR, 0, ADDRESS.pack(family, 0, 0, 0, 0)))
            if isinstance(listed, Refusal):
                if listed.number in NO_FAMILY:
                    continue
                raise OSError(listed.number, listed.text)
            for message in listed:
                found, _, _, _, index = ADDRESS.unpack_from(message.body)
                attributes = netlink.attributes(message.body[ADDRESS.size :])
                if is_floating(attributes):
                    yield address_text(found, attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]), index


def _request(kind: int, address: str, index: int, flags: int = 0, more: bytes = b"") -> Request:
    family, packed, length = pack_prefix(address)
    # Of IPv4 the scope says where an address may be a source: not beyond the LAN, so that none is chosen.
    scope = RT_SCOPE_LINK if family == socket.AF_INET else 0
    body = ADDRESS.pack(family, length, 0, scope, index)
    body += netlink.attribute(IFA_LOCAL, packed) + netlink.attribute(IFA_ADDRESS, packed)
    return Request(kind, flags, body + more)


def _add(address: str, index: int) -> Request:
    """Without a route, without asking for duplicates, which has been done, and never a source of packets."""
    more = netlink.u32(IFA_FLAGS, IFA_F_NOPREFIXROUTE | IFA_F_NODAD) + netlink.u32(IFA_RT_PRIORITY, FLOATING_METRIC)
    if ":" in address:
        more += netlink.attribute(IFA_CACHEINFO, _NO_SOURCE)
    return _request(RTM_NEWADDR, address, index, netlink.F_CREATE | netlink.F_REPLACE, more)
