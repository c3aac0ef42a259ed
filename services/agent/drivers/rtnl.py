"""rtnetlink as all drivers of it speak it: the kernel's structs and numbers, families, prefixes and interface names.

Layouts and numbers are of linux/rtnetlink.h, if_link.h, if_addr.h and fib_rules.h.
"""

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping

from services.agent.core.kernel import ROUTE_PROTOCOL, Family
from services.agent.drivers.netlink import read_u32

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNETCONF = 80
ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19, 24, 25)
"""RTNLGRP_ LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, IPV4_ and IPV6_NETCONF."""

LINK = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_STATS64, IFLA_EXT_MASK = 3, 4, 10, 18, 23, 29
IFLA_INFO_KIND = 1
IFF_UP = 0x1
RTEXT_FILTER_SKIP_STATS = 8

ADDRESS = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefixlen, flags, scope, index."""
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY = 1, 2, 6, 8, 9
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x02, 0x08, 0x20, 0x40
IFA_F_NOPREFIXROUTE = 0x200
FLOATING_METRIC = 0x57420000 + ROUTE_PROTOCOL
"""IFA_RT_PRIORITY of the addresses of drivers/rtnl_floating.py: how they are known after a crash."""

ROUTE = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags."""
NEXT_HOP = struct.Struct("=HBBi")
"""rtnexthop: length, flags, hops, index."""
RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MULTIPATH = 1, 2, 3, 4, 5, 7, 9
RTA_TABLE, RTA_MARK, RTA_VIA = 15, 16, 18
RTNH_F_DEAD, RTNH_F_LINKDOWN = 0x1, 0x10
RTN_UNSPEC, RTN_UNICAST, RTN_UNREACHABLE = 0, 1, 7
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RT_TABLE_UNSPEC, RT_TABLE_COMPAT, RT_TABLE_MAIN = 0, 252, 254
RTPROT_KERNEL = 2
RTM_F_LOOKUP_TABLE, RTM_F_FIB_MATCH = 0x1000, 0x2000

RULE = struct.Struct("=BBBBBBBBI")
"""fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags."""
FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL = 6, 10, 14, 15, 16, 21
FR_ACT_TO_TBL, FR_ACT_UNREACHABLE = 1, 7
FIB_RULE_INVERT = 0x2

NO_FAMILY = {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}
"""The kernel has no rules for this family, which says that it has no routes to keep apart either."""

AF: dict[Family, int] = {"v4": int(socket.AF_INET), "v6": int(socket.AF_INET6)}
FAMILY: dict[int, Family] = {number: family for family, number in AF.items()}


def is_floating(attributes: Mapping[int, memoryview]) -> bool:
    """Whether an address with these attributes is one of drivers/rtnl_floating.py."""
    return IFA_RT_PRIORITY in attributes and read_u32(attributes[IFA_RT_PRIORITY]) == FLOATING_METRIC


def family_of(address: str) -> Family:
    return "v6" if ":" in address else "v4"


def pack_prefix(prefix: str) -> tuple[int, bytes, int]:
    """Family number, address bytes, length of "10.0.0.0/8"; an address without a length is a whole one."""
    address, _, length = prefix.partition("/")
    family = AF[family_of(address)]
    packed = socket.inet_pton(family, address)
    return family, packed, int(length) if length else 8 * len(packed)


def prefix_text(family: int, packed: bytes | memoryview, length: int) -> str:
    """Canonical text of a prefix, or of an address with its prefix length. `packed` is b"" for the default route."""
    if not packed:
        return "0.0.0.0/0" if family == socket.AF_INET else "::/0"
    return f"{address_text(family, packed)}/{length}"


def address_text(family: int, packed: bytes | memoryview) -> str:
    address = socket.inet_ntop(family, packed)
    if family == socket.AF_INET6 and "." in address:  # inet_ntop writes ::a.b.c.d where everything else writes hex
        return str(ipaddress.IPv6Address(bytes(packed)))
    return address


def next_hops(data: memoryview) -> Iterator[tuple[int, int]]:
    """Flags and interface index of each next hop in an RTA_MULTIPATH."""
    at = 0
    while at + NEXT_HOP.size <= len(data):
        length, flags, _, index = NEXT_HOP.unpack_from(data, at)
        if length < NEXT_HOP.size:
            break
        yield flags, index
        at += (length + 3) & ~3


def index_of(device: str) -> int | None:
    """The interface's index, None when there is no such interface."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return None


def name_of(index: int) -> str:
    """The interface's name, "" when there is no such interface any more."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
