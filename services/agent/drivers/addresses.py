"""The addresses of this host, its interfaces, and the ways its packets take."""

import socket
from collections.abc import Iterable, Iterator, Mapping

from services.agent.core.kernel import CONTROL_MARK
from services.agent.core.paths.whereabouts import NOWHERE, Interface, InterfaceAddress, Way, Whereabouts
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    ADDRESS,
    AF,
    IFA_ADDRESS,
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_TENTATIVE,
    IFA_FLAGS,
    IFA_LOCAL,
    IFLA_EXT_MASK,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    LINK,
    NO_FAMILY,
    ROUTE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_MARK,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_TABLE,
    RTEXT_FILTER_SKIP_STATS,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTN_UNICAST,
    RTN_UNSPEC,
    address_text,
    is_floating,
    name_of,
    next_hops,
    pack_prefix,
    prefix_text,
)

PASSING = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE


def whereabouts(rtnl: Netlink, targets: Iterable[str]) -> Whereabouts:
    """What the kernel says now. targets: addresses of the bus and of peers.

    Raises OSError when the kernel cannot be read.
    """
    names, interfaces = _interfaces(rtnl)
    return Whereabouts(
        addresses=tuple(addresses(rtnl)),
        interfaces=interfaces,
        ways={target: _way(rtnl, target, names) for target in targets},
    )


def addresses(rtnl: Netlink) -> Iterator[InterfaceAddress]:
    """By interface, IPv4 first. Those that this host only has for a while are nobody's way to it, and left out."""
    listed = [
        message
        for family in AF.values()
        for message in _dump(rtnl, Request(RTM_GETADDR, 0, ADDRESS.pack(family, 0, 0, 0, 0)))
    ]
    for message in sorted(listed, key=lambda message: int(ADDRESS.unpack_from(message.body)[4])):
        family, length, flags, _, index = ADDRESS.unpack_from(message.body)
        attributes = netlink.attributes(message.body[ADDRESS.size :])
        if is_floating(attributes):
            continue
        if IFA_FLAGS in attributes:
            flags = netlink.read_u32(attributes[IFA_FLAGS])
        packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
        if interface := name_of(index):
            text = prefix_text(family, packed, length)
            yield InterfaceAddress(interface=interface, address=text, passing=bool(flags & PASSING))


def _interfaces(rtnl: Netlink) -> tuple[dict[int, str], dict[str, Interface]]:
    """Index → name, and name → interface."""
    names: dict[int, str] = {}
    kinds: dict[int, str] = {}
    ports: dict[int, set[str]] = {}
    body = LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + netlink.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    for message in _dump(rtnl, Request(RTM_GETLINK, 0, body)):
        index = LINK.unpack_from(message.body)[2]
        attributes = netlink.attributes(message.body[LINK.size :])
        info = netlink.attributes(attributes.get(IFLA_LINKINFO, memoryview(b"")))
        names[index] = netlink.read_text(attributes[IFLA_IFNAME])
        kinds[index] = netlink.read_text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else ""
        if IFLA_MASTER in attributes:
            ports.setdefault(netlink.read_u32(attributes[IFLA_MASTER]), set()).add(kinds[index])
    defaults = frozenset(_defaults(rtnl))
    return names, {
        name: Interface(kind=kinds[index], ports=frozenset(ports.get(index, ())), has_default=index in defaults)
        for index, name in names.items()
    }


def _defaults(rtnl: Netlink) -> Iterator[int]:
    """Indexes of the interfaces that a default route of table main leads to."""
    for family in AF.values():
        body = ROUTE.pack(family, 0, 0, 0, 0, 0, RT_SCOPE_UNIVERSE, RTN_UNSPEC, 0)
        for message in _dump(rtnl, Request(RTM_GETROUTE, 0, body + netlink.u32(RTA_TABLE, RT_TABLE_MAIN))):
            _, length, _, _, table, _, _, kind, _ = ROUTE.unpack_from(message.body)
            if length or kind != RTN_UNICAST or table != RT_TABLE_MAIN:
                continue
            attributes = netlink.attributes(message.body[ROUTE.size :])
            if RTA_OIF in attributes:
                yield netlink.read_u32(attributes[RTA_OIF])
            yield from (index for _, index in next_hops(attributes.get(RTA_MULTIPATH, memoryview(b""))))


def _way(rtnl: Netlink, target: str, names: Mapping[int, str]) -> Way:
    """How a packet of the agent's gets there."""
    family, packed, length = pack_prefix(target)
    body = ROUTE.pack(family, length, 0, 0, 0, 0, RT_SCOPE_UNIVERSE, RTN_UNSPEC, 0)
    body += netlink.attribute(RTA_DST, packed) + netlink.u32(RTA_MARK, CONTROL_MARK)
    answer = rtnl.get(Request(RTM_GETROUTE, 0, body))
    if isinstance(answer, Refusal):
        return NOWHERE
    attributes = netlink.attributes(answer.body[ROUTE.size :])
    if RTA_PREFSRC not in attributes or RTA_OIF not in attributes:
        return NOWHERE
    interface = names.get(netlink.read_u32(attributes[RTA_OIF]), "")
    return Way(source=address_text(family, attributes[RTA_PREFSRC]), interface=interface)


def _dump(rtnl: Netlink, request: Request) -> list[Message]:
    """Nothing for a family that the kernel does not have."""
    listed = rtnl.dump(request)
    if isinstance(listed, Refusal):
        if listed.number in NO_FAMILY:
            return []
        raise OSError(listed.number, listed.text)
    return listed
