"""Where the kernel sends packets, by asking it, and the policy routing rules of others."""

import asyncio
import errno
from collections.abc import Mapping

from services.agent.core.kernel import ROUTE_PROTOCOL
from services.agent.core.routing.following import Answer, Entrance, OtherRule
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    AF,
    FAMILY,
    FR_ACT_TO_TBL,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_TABLE,
    NO_FAMILY,
    ROUTE,
    RTA_DST,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_SRC,
    RTA_TABLE,
    RTA_VIA,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RULE,
    index_of,
    name_of,
    next_hops,
    pack_prefix,
    prefix_text,
)

AT_ONCE = 200
"""Questions in one sendmsg: about 1 ms, and their answers fit well into the receive buffer."""


class Ways:
    """The kernel's answers. protocol: of our own rules. 1,000 questions take about 10 ms."""

    def __init__(self, rtnl: Netlink, protocol: int = ROUTE_PROTOCOL) -> None:
        self._rtnl = rtnl
        self._protocol = protocol

    async def ask(self, addresses: Mapping[str, str], entrance: Entrance | None = None) -> dict[str, Answer]:
        """Key → the route that a packet to the address takes: one of this host, or one that comes in there.

        Of a packet that comes in the kernel also says when it would not forward it.
        """
        came_in = _came_in(entrance) if entrance else {}
        found: dict[str, Answer] = {}
        names: dict[int, str] = {}
        keys = list(addresses)
        for at in range(0, len(keys), AT_ONCE):
            some = keys[at : at + AT_ONCE]
            replies = self._rtnl.each([_question(addresses[key], came_in) for key in some])
            for key, reply in zip(some, replies, strict=True):
                found[key] = _refused(reply) if isinstance(reply, Refusal) else _answer(reply, names)
            await asyncio.sleep(0)
        return found

    def others(self) -> tuple[OtherRule, ...]:
        """The rules that are not ours."""
        listed = (message for family in AF.values() for message in self._dump(family))
        return tuple(rule for message in listed if (rule := self._rule(message)))

    def _dump(self, family: int) -> list[Message]:
        listed = self._rtnl.dump(Request(RTM_GETRULE, 0, RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)))
        if isinstance(listed, Refusal):
            if listed.number in NO_FAMILY:
                return []
            raise OSError(listed.number, listed.text)
        return [message for message in listed if message.body[0] == family]

    def _rule(self, message: Message) -> OtherRule | None:
        family, _, _, _, table, _, _, action, _ = RULE.unpack_from(message.body)
        found = netlink.attributes(message.body[RULE.size :])
        if FRA_PROTOCOL in found and found[FRA_PROTOCOL][0] == self._protocol:
            return None
        table = netlink.read_u32(found[FRA_TABLE]) if FRA_TABLE in found else table
        return OtherRule(
            family=FAMILY[family],
            priority=netlink.read_u32(found[FRA_PRIORITY]) if FRA_PRIORITY in found else 0,
            table=table if action == FR_ACT_TO_TBL else 0,
        )


def _came_in(entrance: Entrance) -> dict[int, bytes]:
    """Family → what a question says of the packet's source and interface."""
    index = index_of(entrance.device)
    if index is None:
        raise OSError(errno.ENODEV, f"there is no interface {entrance.device}")
    return {
        AF[family]: netlink.attribute(RTA_SRC, pack_prefix(source)[1]) + netlink.u32(RTA_IIF, index)
        for family, source in entrance.sources.items()
    }


def _question(address: str, came_in: Mapping[int, bytes]) -> Request:
    family, packed, length = pack_prefix(address)
    source = came_in.get(family, b"")
    # IPv6 names the table always, and refuses to be asked for it.
    flags = RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if family == AF["v4"] else 0)
    header = ROUTE.pack(family, length, length if source else 0, 0, 0, 0, 0, 0, flags)
    return Request(RTM_GETROUTE, 0, header + netlink.attribute(RTA_DST, packed) + source)


def _refused(refusal: Refusal) -> Answer:
    return Answer(refused=refusal.text, errno=refusal.number)


def _answer(message: Message, names: dict[int, str]) -> Answer:
    family, length, _, _, table, _, _, _, flags = ROUTE.unpack_from(message.body)
    found = netlink.attributes(message.body[ROUTE.size :])
    index = netlink.read_u32(found[RTA_OIF]) if RTA_OIF in found else 0
    if hops := list(next_hops(found.get(RTA_MULTIPATH, memoryview(b"")))):
        flags, index = min((flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN), index) for flags, index in hops)
    if index not in names:
        names[index] = name_of(index)
    return Answer(
        device=names[index],
        table=netlink.read_u32(found[RTA_TABLE]) if RTA_TABLE in found else table,
        prefix=prefix_text(family, found.get(RTA_DST, b""), length),
        link="down" if flags & RTNH_F_DEAD else "no carrier" if flags & RTNH_F_LINKDOWN else "up",
        direct=not found.keys() & {RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH},
    )
