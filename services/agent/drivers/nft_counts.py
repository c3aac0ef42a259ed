"""What the rules of the table have counted, read from the kernel's own messages: a listing would read all sets too.

Layouts: linux/netfilter/nf_tables.h; of the comment: libnftnl/udata.h.
"""

import struct
from collections.abc import Iterable

from services.agent.core.kernel import Count, RuleName
from services.agent.drivers.netlink import Netlink, Refusal, Request, attributes, read_text, text

NFT_MSG_GETRULE = 10 << 8 | 7
NFPROTO_INET = 1
NFGENMSG = 4
"""Bytes of nfgenmsg, which begins with the family."""
NFTA_RULE_TABLE = 1
NFTA_RULE_CHAIN, NFTA_RULE_USERDATA = 2, 7
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 2
COMMENT = 0
"""NFTNL_UDATA_RULE_COMMENT."""

_COUNTER = text(NFTA_EXPR_NAME, "counter")
_U64 = struct.Struct("!Q")


def counts(netfilter: Netlink, table: str, chain: str = "") -> dict[RuleName, Count]:
    """Of the table's rules, or of one chain's; none where there is no such table or chain. 9 us a rule."""
    body = bytes((NFPROTO_INET, 0, 0, 0)) + text(NFTA_RULE_TABLE, table)
    listed = netfilter.dump(Request(NFT_MSG_GETRULE, 0, body + (text(NFTA_RULE_CHAIN, chain) if chain else b"")))
    return {} if isinstance(listed, Refusal) else read_counts(message.body[NFGENMSG:] for message in listed)


def read_counts(rules: Iterable[memoryview]) -> dict[RuleName, Count]:
    """Of rules that have counted anything. rules: the attributes of each, as NFT_MSG_GETRULE lists them."""
    found: dict[RuleName, Count] = {}
    for rule in rules:
        count = _count(bytes(rule))
        if count is not None and count.packets:
            parts = attributes(rule)
            key = _comment(bytes(parts.get(NFTA_RULE_USERDATA, b""))).rpartition(" ")[2]
            found[read_text(parts[NFTA_RULE_CHAIN]), key] = count
    return found


def _count(rule: bytes) -> Count | None:
    """What the rule's counter says, None when it has none.

    Looked for by the whole attribute with its name, which nothing else of a rule of ours contains: reading expression
    by expression takes ten times as long.
    """
    at = rule.find(_COUNTER)
    if at < 0:
        return None
    counter = attributes(attributes(memoryview(rule)[at + len(_COUNTER) :])[NFTA_EXPR_DATA])
    return Count(*(_U64.unpack(counter[kind])[0] for kind in (NFTA_COUNTER_PACKETS, NFTA_COUNTER_BYTES)))


def _comment(userdata: bytes) -> str:
    """Entries of one byte for the type, one for the length, and the value."""
    at = 0
    while at + 2 <= len(userdata):
        end = at + 2 + userdata[at + 1]
        if userdata[at] == COMMENT:
            return userdata[at + 2 : end].rstrip(b"\0").decode(errors="replace")
        at = end
    return ""
