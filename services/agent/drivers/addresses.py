"""The addresses at which other hosts may reach this one."""

import ipaddress
import socket

import msgspec

from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import address_text, name_of
from services.agent.drivers.rtnl_links import ADDRESS, IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, RTM_GETADDR
from services.agent.drivers.rtnl_rules import NO_FAMILY

RT_SCOPE_UNIVERSE = 0
IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x08, 0x20, 0x40
UNUSABLE = IFA_F_DADFAILED | IFA_F_DEPRECATED | IFA_F_TENTATIVE

CONTAINERS = ("docker", "br-", "veth", "virbr", "podman", "cni", "flannel", "cali", "lxc")
"""How names of interfaces begin behind which are this host's own containers and machines, and no other hosts."""


class LocalAddress(msgspec.Struct, frozen=True, kw_only=True):
    """prefix: the network it is in, "192.168.1.0/24"."""

    interface: str
    address: str
    prefix: str


def local_addresses(rtnl: Netlink, overlay: str) -> tuple[LocalAddress, ...]:
    """Usable addresses of global scope, in the kernel's order: by interface, IPv4 first.

    overlay: our own interface, whose addresses lead nowhere else. Interfaces of containers are left out as well.
    Raises OSError when the kernel cannot be read.
    """
    found: list[tuple[int, LocalAddress]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        listed = rtnl.dump(Request(RTM_GETADDR, 0, ADDRESS.pack(family, 0, 0, 0, 0)))
        if isinstance(listed, Refusal):
            if listed.number in NO_FAMILY:
                continue
            raise OSError(listed.number, listed.text)
        found += filter(None, (_read(message, overlay) for message in listed))
    return tuple(address for _, address in sorted(found, key=lambda item: item[0]))


def _read(message: Message, overlay: str) -> tuple[int, LocalAddress] | None:
    family, length, flags, scope, index = ADDRESS.unpack_from(message.body)
    attributes = netlink.attributes(message.body[ADDRESS.size :])
    if IFA_FLAGS in attributes:
        flags = netlink.read_u32(attributes[IFA_FLAGS])
    interface = name_of(index)
    if scope != RT_SCOPE_UNIVERSE or flags & UNUSABLE or interface in ("", overlay) or interface.startswith(CONTAINERS):
        return None
    address = address_text(family, attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS])
    prefix = str(ipaddress.ip_network(f"{address}/{length}", strict=False))
    return index, LocalAddress(interface=interface, address=address, prefix=prefix)
