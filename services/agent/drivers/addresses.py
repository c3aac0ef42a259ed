"""The addresses of this host."""

import socket

from services.agent.core.candidates import InterfaceAddress
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import name_of, prefix_text
from services.agent.drivers.rtnl_links import ADDRESS, IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, RTM_GETADDR
from services.agent.drivers.rtnl_rules import NO_FAMILY

RT_SCOPE_UNIVERSE = 0
IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x08, 0x20, 0x40
UNUSABLE = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE


def local_addresses(rtnl: Netlink) -> tuple[InterfaceAddress, ...]:
    """Usable addresses of global scope, in the kernel's order: by interface, IPv4 first.

    Raises OSError when the kernel cannot be read.
    """
    found: list[tuple[int, InterfaceAddress]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        listed = rtnl.dump(Request(RTM_GETADDR, 0, ADDRESS.pack(family, 0, 0, 0, 0)))
        if isinstance(listed, Refusal):
            if listed.number in NO_FAMILY:
                continue
            raise OSError(listed.number, listed.text)
        found += filter(None, map(_read, listed))
    return tuple(address for _, address in sorted(found, key=lambda item: item[0]))


def _read(message: Message) -> tuple[int, InterfaceAddress] | None:
    family, length, flags, scope, index = ADDRESS.unpack_from(message.body)
    attributes = netlink.attributes(message.body[ADDRESS.size :])
    if IFA_FLAGS in attributes:
        flags = netlink.read_u32(attributes[IFA_FLAGS])
    interface = name_of(index)
    if scope != RT_SCOPE_UNIVERSE or flags & UNUSABLE or not interface:
        return None
    packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
    return index, InterfaceAddress(interface=interface, address=prefix_text(family, packed, length))
