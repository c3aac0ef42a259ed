"""Policy routing rules, recognised by their protocol number."""

import errno
import struct
from collections.abc import Iterable, Mapping

from services.agent.core.kernel import ROUTE_PROTOCOL, RuleEntry, RuleKey
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    AF,
    FAMILY,
    FIB_RULE_INVERT,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
    FRA_FWMARK,
    FRA_FWMASK,
    FRA_PRIORITY,
    FRA_PROTOCOL,
    FRA_SUPPRESS_PREFIXLEN,
    FRA_TABLE,
    NO_FAMILY,
    RTM_DELRULE,
    RTM_GETRULE,
    RTM_NEWRULE,
    RULE,
)


class Rules:
    """Driver of the rules with ROUTE_PROTOCOL; equal ones of others are left alone.

    A family that the kernel lacks has no rules: adding one there succeeds without effect; see `families`.
    """

    def __init__(self, rtnl: Netlink, protocol: int = ROUTE_PROTOCOL) -> None:
        self._rtnl = rtnl
        self._protocol = protocol

    def families(self) -> frozenset[str]:
        """The families that the kernel can have rules for: "v4", "v6"."""
        return frozenset(family for family in AF if self._dump(AF[family]) is not None)

    async def observe(self) -> dict[RuleKey, RuleEntry]:
        """Key → rule; of several with one key the one that the kernel asks first."""
        found: dict[RuleKey, RuleEntry] = {}
        for entry, _ in self._ours():
            found.setdefault((entry.family, entry.priority), entry)
        return found

    async def upsert(self, entries: Mapping[RuleKey, RuleEntry]) -> dict[RuleKey, str]:
        """Add, and only then remove what stands in its place. (family, priority) → error."""
        ours = self._ours()
        errors: dict[RuleKey, str] = {}
        for key, entry in entries.items():
            same = [body for other, body in ours if other == entry]
            stale = [body for other, body in ours if (other.family, other.priority) == key and other != entry]
            refused = None if same else self._add(entry)
            refused = refused or next(filter(None, map(self._remove, [*same[1:], *stale])), None)
            if refused:
                errors[key] = refused.text
        return errors

    async def delete(self, keys: Iterable[RuleKey]) -> dict[RuleKey, str]:
        """Remove. What is not there counts as removed. (family, priority) → error."""
        ours = self._ours()
        errors: dict[RuleKey, str] = {}
        for key in keys:
            for entry, body in ours:
                if (entry.family, entry.priority) == key and (refused := self._remove(body)):
                    errors[key] = refused.text
        return errors

    def _ours(self) -> list[tuple[RuleEntry, bytes]]:
        """Every rule of ours with the message that describes it to the kernel."""
        listed = [message for family in AF.values() for message in self._dump(family) or ()]
        return [(entry, bytes(message.body)) for message in listed if (entry := self._read(message))]

    def _dump(self, family: int) -> list[Message] | None:
        listed = self._rtnl.dump(Request(RTM_GETRULE, 0, RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)))
        if isinstance(listed, Refusal):
            if listed.number in NO_FAMILY:
                return None
            raise OSError(listed.number, listed.text)
        return [message for message in listed if message.body[0] == family]

    def _read(self, message: Message) -> RuleEntry | None:
        family, _, _, _, table, _, _, action, flags = RULE.unpack_from(message.body)
        found = netlink.attributes(message.body[RULE.size :])
        if FRA_PROTOCOL not in found or found[FRA_PROTOCOL][0] != self._protocol:
            return None
        mark = netlink.read_u32(found[FRA_FWMARK]) if FRA_FWMARK in found else 0
        mask = netlink.read_u32(found[FRA_FWMASK]) if FRA_FWMASK in found else 0
        suppress = struct.unpack("=i", found[FRA_SUPPRESS_PREFIXLEN])[0] if FRA_SUPPRESS_PREFIXLEN in found else -1
        return RuleEntry(
            family=FAMILY[family],
            priority=netlink.read_u32(found[FRA_PRIORITY]) if FRA_PRIORITY in found else 0,
            table=netlink.read_u32(found[FRA_TABLE]) if FRA_TABLE in found else table,
            unreachable=action == FR_ACT_UNREACHABLE,
            suppress_prefix_length=suppress,
            not_mark=(mark, mask) if flags & FIB_RULE_INVERT else None,
        )

    def _add(self, entry: RuleEntry) -> Refusal | None:
        action = FR_ACT_UNREACHABLE if entry.unreachable else FR_ACT_TO_TBL
        body = RULE.pack(AF[entry.family], 0, 0, 0, 0, 0, 0, action, FIB_RULE_INVERT if entry.not_mark else 0)
        body += netlink.u32(FRA_PRIORITY, entry.priority) + netlink.u32(FRA_TABLE, entry.table)
        body += netlink.u8(FRA_PROTOCOL, self._protocol)
        if entry.suppress_prefix_length >= 0:
            body += netlink.u32(FRA_SUPPRESS_PREFIXLEN, entry.suppress_prefix_length)
        if entry.not_mark:
            mark, mask = entry.not_mark
            body += netlink.u32(FRA_FWMARK, mark) + netlink.u32(FRA_FWMASK, mask)
        # Not exclusive: another program's rule may be equal in all but the protocol, and then is no reason to refuse.
        refused = self._rtnl.apply([Request(RTM_NEWRULE, netlink.F_CREATE, body)]).get(0)
        return None if refused and refused.number in {errno.EEXIST, *NO_FAMILY} else refused

    def _remove(self, body: bytes) -> Refusal | None:
        refused = self._rtnl.apply([Request(RTM_DELRULE, 0, body)]).get(0)
        return None if refused and refused.number in {errno.ENOENT, *NO_FAMILY} else refused
