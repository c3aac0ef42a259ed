"""The values that desired and observed kernel state are made of.

Each kind of entry has a key; a map from key to entry is a state. Prefixes and addresses are canonical text, so that
equal state is equal text. Marks, table and priorities are NetBird's (reference agent §1.2), so that what operators know
about its hosts holds here; the route protocol number is ours.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from services.agent.core.rule import Rule

INTERFACE = "wt0"
LISTEN_PORT = 51820
MTU = 1280
KEEPALIVE_S = 25
TABLE = 7120
RULE_MAIN = 105
RULE_OVERLAY = 110
RULE_CLOSED = 115
ROUTE_PROTOCOL = 213
"""rtm_protocol of every route and rule of ours: how they are known after a crash. Free in iproute2's rt_protos."""
CONTROL_MARK = 0x1BD00
CONTROL_MASK = 0x1FF00
"""Packets of the agent itself and of WireGuard carry CONTROL_MARK within CONTROL_MASK and skip the overlay's table.

The low byte, NetBird's data-plane range, and all bits above stay free for others.
"""
PROBE_IDENTIFIER = 0x5742
"""Of the ICMP echo requests by which clients probe their routing peers: a gateway's table tells them from others."""
PROBE_REFUSED = 0xFFFF
"""Sequence number of an answer by which a gateway says that it carries nothing for who asks; no question has it."""
FORWARDER_PORT = 22054
"""Where each routing peer answers for the names of its routes, whatever port clients are told of (decision D1)."""
FILL_AT_ONCE = 1000
"""Elements of dynamic sets in one transaction."""
NFT_TABLE = "whimbrel"
"""One table of family inet holds everything of ours in nftables."""

Family: TypeAlias = Literal["v4", "v6"]
SetOrMap: TypeAlias = Literal["set", "map"]


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The overlay interface. Key: name. addresses: with prefix length, "100.64.0.7/16"."""

    name: str
    mtu: int
    up: bool
    addresses: frozenset[str]


class WireGuardDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the WireGuard device. Key: interface name.

    public_key stands for the private key, which only the driver handles. keeps_whole: its IPv4 packets must not be
    fragmented, so that they vanish where a path is too narrow and does not say so.
    """

    public_key: str
    listen_port: int
    fwmark: int
    keeps_whole: bool = False


class WireGuardPeer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer of the device. Key: public_key.

    endpoint: "address:port" or "[address]:port"; "" in a desired peer leaves the endpoint alone, in an observed one
    means there is none. allowed_ips: prefixes.
    """

    public_key: str
    allowed_ips: frozenset[str]
    endpoint: str = ""
    keepalive_s: int = KEEPALIVE_S


class PeerStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the device counts for one peer, and the prefixes it has. last_handshake: unix seconds, 0.0 = never."""

    endpoint: str
    last_handshake: float
    rx_bytes: int
    tx_bytes: int
    allowed_ips: frozenset[str] = frozenset()


class FloatingAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address without a length that this host has for a while in a LAN. Key: address."""

    address: str
    interface: str


class RouteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One route in TABLE. Key: prefix. device: "" for an unreachable route, which is what `unreachable` then says."""

    prefix: str
    device: str
    unreachable: bool = False


class RuleEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One policy routing rule. Key: (family, priority).

    table: 0 for a rule that makes everything unreachable, which is what `unreachable` then says.
    suppress_prefix_length: -1 = not set. not_mark: (mark, mask) of packets the rule does not apply to, or None.
    """

    family: Family
    priority: int
    table: int = 0
    unreachable: bool = False
    suppress_prefix_length: int = -1
    not_mark: tuple[int, int] | None = None


RuleKey: TypeAlias = tuple[Family, int]


class NftSet(msgspec.Struct, frozen=True, kw_only=True):
    """A named set. type: nft's, such as "ipv4_addr". interval: elements are prefixes or ranges.

    dynamic: somebody else fills it, with addresses that stay for a time (RulesetDriver.fill); the ruleset says only
    that there is such a set, without elements, and no comparison looks at what is in it.

    elements: nft text of each element, canonical: "100.64.0.7", "10.0.0.0/8", "10.0.0.0-10.0.0.9", a whole address
    without length and a range that is a prefix as one; concatenated "100.64.0.7 . 6 . 80-90", protocols as numbers.
    """

    name: str
    type: str
    interval: bool
    elements: frozenset[str] = frozenset()
    dynamic: bool = False


class NftMap(msgspec.Struct, frozen=True, kw_only=True):
    """A named verdict map. type: nft's for the key, such as "ipv4_addr".

    elements: key text → verdict text, "10.0.0.0/8" → "jump permits_x"; keys as in NftSet. routes: key text → ids of the
    routes that the element comes from, which the kernel is not told.
    """

    name: str
    type: str
    interval: bool
    elements: Mapping[str, str]
    routes: Mapping[str, frozenset[str]] = {}


class Hook(msgspec.Struct, frozen=True):
    """Where a base chain is asked; of the chains at one place that with the lowest priority first. It accepts what
    its rules do not decide."""

    type: Literal["filter", "nat"]
    at: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int


class NftChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain with its rules in order. hook: None for a regular chain, which others jump to."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None


class Ruleset(msgspec.Struct, frozen=True, kw_only=True):
    """All of table NFT_TABLE: desired state. Sorted by name within each field.

    `shape` names everything but the elements of sets and maps: when it is equal, a change is a change of elements.
    """

    sets: tuple[NftSet, ...] = ()
    maps: tuple[NftMap, ...] = ()
    chains: tuple[NftChain, ...] = ()


class ObservedRuleset(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel holds of table NFT_TABLE.

    shape: the fingerprint the table was written with (its rules' comments, see drivers/nft.py), "" when there is no
    table or when rules, chains or sets were added, removed or reordered by others. elements: set or map name → element
    texts as in NftSet, for a map "key : verdict"; without dynamic sets.
    """

    shape: str
    elements: dict[str, frozenset[str]]


class Count(msgspec.Struct, frozen=True, gc=False):
    """What a rule has decided about, since it stands in its chain."""

    packets: int = 0
    bytes: int = 0


RuleName: TypeAlias = tuple[str, str]
"""A rule in the kernel: its chain and `Rule.key`."""


class SysctlEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One kernel setting. Key: path with slashes, "net/ipv4/ip_forward"."""

    path: str
    value: str
