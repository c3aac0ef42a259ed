"""What others change in the kernel, told by the kernel: raw netlink sockets with room for a burst.

Measured with 32 MiB: a burst of 100,000 route changes is read to the end, where pyroute2's listener dies.
"""

import errno
import socket
import struct
from collections.abc import Callable, Collection

from services.agent.core.kernel import NFT_TABLE, TABLE
from services.agent.core.reconcile.steps import Kind
from services.agent.core.reconcile.tables import KINDS, dirtied
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message
from services.agent.drivers.nft import NFT_MSG_NEWGEN, NFTA_GEN_ID
from services.agent.drivers.nft_counts import NFPROTO_INET
from services.agent.drivers.rtnl import (
    ADDRESS,
    IFLA_IFNAME,
    LINK,
    ROUTE,
    ROUTE_GROUPS,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_COMPAT,
    RT_TABLE_MAIN,
    RTA_OIF,
    RTA_TABLE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTN_UNICAST,
    RTPROT_KERNEL,
    index_of,
    is_floating,
)
from services.agent.ports import HostChange

RECEIVE_BUFFER = 32 << 20
AT_ONCE = 64
"""Datagrams that one reading takes from a socket, so that a burst does not hold up everything else."""

NFNLGRP_NFTABLES = 7
GENERATIONS = 1 << 32

EVERYTHING: frozenset[Kind | HostChange] = frozenset((*dirtied(KINDS), "addresses", "departed", "ways"))
NOTHING: frozenset[Kind | HostChange] = frozenset()
ADDRESSES: frozenset[Kind | HostChange] = frozenset(("addresses",))
DEPARTED: frozenset[Kind | HostChange] = frozenset(("addresses", "departed"))
WAYS: frozenset[Kind | HostChange] = frozenset(("ways",))


class KernelNotifications:
    """Notifications about our parts of the kernel, and about the host's addresses and default routes.

    interface: the overlay's. ports: netlink ports of our own sockets, whose changes are no news. accounted: the
    generation of the kernel's nftables up to which everything is known (Nft.accounted).
    """

    def __init__(
        self, interface: str, ports: Collection[int], accounted: Callable[[], int], table: str = NFT_TABLE
    ) -> None:
        self._interface = interface
        self._ports = ports
        self._accounted = accounted
        self._index = index_of(interface)
        self._our_table = struct.pack("=HH", 4 + len(table) + 1, 1) + table.encode() + b"\0"
        self._touched = False
        self._sockets = (
            (_listen(netlink.ROUTE, ROUTE_GROUPS), self._route),
            (_listen(netlink.NETFILTER, (NFNLGRP_NFTABLES,)), self._nft),
        )

    def filenos(self) -> tuple[int, ...]:
        return tuple(listening.fileno() for listening, _ in self._sockets)

    def close(self) -> None:
        for listening, _ in self._sockets:
            listening.close()

    def read(self) -> frozenset[Kind | HostChange]:
        """What may be different. Everything, when the kernel had to leave out notifications."""
        dirty = NOTHING
        for listening, judge in self._sockets:
            try:
                for _ in range(AT_ONCE):
                    for message in netlink.messages(listening.recv(netlink.RECEIVE_CHUNK)):
                        dirty |= judge(message)
            except BlockingIOError:
                continue
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                _empty(listening)
                self._touched = False
                self._index = index_of(self._interface)
                dirty = EVERYTHING
        return dirty

    def _route(self, message: Message) -> frozenset[Kind | HostChange]:
        if message.port in self._ports:
            return NOTHING
        if message.kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return _in_table(message, self._index)
        if message.kind in (RTM_NEWADDR, RTM_DELADDR):
            _, _, _, scope, index = ADDRESS.unpack_from(message.body)
            if is_floating(netlink.attributes(message.body[ADDRESS.size :])):
                # That one has come is ours: the kernel tells of an IPv6 address once more when it may be used.
                return frozenset(("floating",)) if message.kind == RTM_DELADDR else NOTHING
            if index == self._index:
                return frozenset(("link",))
            # Those of a link alone come and go with every container.
            return DEPARTED if message.kind == RTM_DELADDR and scope == RT_SCOPE_UNIVERSE else ADDRESSES
        if message.kind in (RTM_NEWLINK, RTM_DELLINK):
            return self._link(message)
        if message.kind in (RTM_NEWRULE, RTM_DELRULE):
            return frozenset(("rule",))
        return frozenset(("sysctl",)) if message.kind == RTM_NEWNETCONF else NOTHING

    def _link(self, message: Message) -> frozenset[Kind | HostChange]:
        index = LINK.unpack_from(message.body)[2]
        name = netlink.read_text(netlink.attributes(message.body[LINK.size :])[IFLA_IFNAME])
        if index != self._index and name != self._interface:
            return frozenset(("addresses", "sysctl"))
        self._index = index_of(self._interface)
        return frozenset(("link",))

    def _nft(self, message: Message) -> frozenset[Kind | HostChange]:
        """A transaction tells what it did and ends with its generation."""
        if message.kind != NFT_MSG_NEWGEN:
            # Every message about a table, and what is in it, begins with the table's name.
            self._touched = self._touched or (
                message.body[0] == NFPROTO_INET and message.body[4 : 4 + len(self._our_table)] == self._our_table
            )
            return NOTHING
        touched, self._touched = self._touched, False
        generation = int.from_bytes(netlink.attributes(message.body[4:])[NFTA_GEN_ID], "big")
        known = (self._accounted() - generation) % GENERATIONS < GENERATIONS // 2
        return frozenset(("ruleset",)) if touched and not known else NOTHING


def _empty(listening: socket.socket) -> None:
    """Throw away what is there: until then the kernel drops whatever else happens, without saying so again."""
    while True:
        try:
            listening.recv(netlink.RECEIVE_CHUNK)
        except BlockingIOError:
            return
        except OSError as problem:
            if problem.errno != errno.ENOBUFS:
                raise


def _in_table(message: Message, ours: int | None) -> frozenset[Kind | HostChange]:
    _, length, _, _, table, protocol, _, kind, _ = ROUTE.unpack_from(message.body)
    if table == RT_TABLE_MAIN and length == 0:
        return ADDRESSES
    attributes = netlink.attributes(message.body[ROUTE.size :])
    # A table beyond 255 has RT_TABLE_COMPAT in the old field.
    if table == RT_TABLE_COMPAT and netlink.read_u32(attributes[RTA_TABLE]) == TABLE:
        return frozenset(("route",))
    is_by_us = RTA_OIF in attributes and netlink.read_u32(attributes[RTA_OIF]) == ours
    if is_by_us and (table != RT_TABLE_MAIN or protocol == RTPROT_KERNEL):
        return NOTHING
    # What the kernel makes itself comes with an address, which is told, but may be removed by itself.
    is_lost = message.kind == RTM_DELROUTE and table == RT_TABLE_MAIN and kind == RTN_UNICAST
    return WAYS if is_lost or protocol != RTPROT_KERNEL else NOTHING


def _listen(protocol: int, groups: Collection[int]) -> socket.socket:
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    netlink.widen(listening, RECEIVE_BUFFER)
    listening.bind((0, 0))
    for group in groups:
        listening.setsockopt(netlink.SOL_NETLINK, netlink.NETLINK_ADD_MEMBERSHIP, group)
    return listening
