"""One rule of the table as a value: which packets it is for, what becomes of them, and which documents ask for it.

drivers/nft_rules.py writes it in nft's words, core/firewall/trace.py does to a packet what the kernel does.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from services.agent.core.intervals import Range, Version

Field: TypeAlias = Literal["source", "destination"]
Carrier: TypeAlias = Literal["packet", "connection"]


class Interface(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="interface"):
    """The packet comes in or goes out by the interface; with `other`, by any other one."""

    direction: Literal["in", "out"]
    name: str
    other: bool = False


class Member(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="member"):
    """The packet's source or destination is in the named set, which is of the family."""

    version: Version
    field: Field
    set_name: str


class Within(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="within"):
    """The packet's source or destination is in the prefix."""

    version: Version
    field: Field
    prefix: str


class IpProtocol(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="protocol"):
    """name: nft's, "tcp", "udp", "icmp" or "ipv6-icmp"."""

    name: str


class Ports(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="ports"):
    """The packet is of the protocol, and its destination port is one of these: disjoint, in order, at least one."""

    protocol: Literal["tcp", "udp"]
    ports: tuple[Range, ...]


class Connection(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="connection"):
    """related: the packet belongs to another connection, as an ICMP error does. answer: it comes from the side that did
    not begin. reply: the same, and it is part of the connection itself. stray: it is TCP's, from the middle of a
    connection that was not seen here before. invalid: connection tracking takes it for no connection at all."""

    state: Literal["related", "answer", "reply", "stray", "invalid"]


class Marked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="marked"):
    """The mark of the packet or of its connection is `mark` within `mask`."""

    carrier: Carrier
    mark: int
    mask: int


class Local(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="local"):
    """The packet is for an address of this host."""


class Opening(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="opening"):
    """The packet opens a TCP connection, from either side: SYN is set and RST is not."""

    version: Version


class Echo(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="echo"):
    """The packet is an ICMP echo request of the family with that identifier."""

    version: Version
    identifier: int


Condition: TypeAlias = Interface | Member | Within | IpProtocol | Ports | Connection | Marked | Local | Opening | Echo


class Jump(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="jump"):
    """Ask the rules of a chain; where none decides, the rule after this one goes on."""

    chain: str


class Dispatch(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="dispatch"):
    """Do what the verdict map says of the packet's destination; where it says nothing, the rule does not match."""

    version: Version
    map_name: str


class SetMark(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="mark"):
    """Give the packet or its connection the mark within the mask, and go on."""

    carrier: Carrier
    mark: int
    mask: int


class Clamp(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="clamp"):
    """Lower the segment size that the packet asks for to `size` bytes, and go on."""

    size: int


class Renumber(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="renumber"):
    """Give the ICMP echo request another sequence number, which its answer then has, and go on."""

    version: Version
    sequence: int


class Redirect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="redirect"):
    """Lead the connection to that port of this host."""

    port: int


Decided: TypeAlias = Literal["accept", "drop", "reset"]
"""What becomes of a packet. reset: it is dropped, and TCP's sender is told that there is no such connection."""

Verdict: TypeAlias = Decided | Literal["masquerade"] | Jump | Dispatch | SetMark | Clamp | Renumber | Redirect


class Origin(msgspec.Struct, frozen=True, gc=False, order=True):
    """What a rule comes from: ids of the documents, "" where there is none.

    A permit is a policy rule on a route, or the route alone where it has no access control groups (decision A2).
    policy: "" also where this host was not given the rule's own document. ports: those this one names, () = all;
    a rule may have more, from others.
    """

    route: str = ""
    policy: str = ""
    rule: str = ""
    ports: tuple[Range, ...] = ()


NOWHERE: frozenset[Origin] = frozenset()
"""The origins of a rule that is there whatever the documents say."""


class Rule(msgspec.Struct, frozen=True, gc=False):
    """conditions: all of them must hold, asked in this order.

    origins: every document the rule comes from, outside the table's fingerprint: what the kernel does with packets
    does not depend on it, so that other ids alone change nothing there.
    """

    conditions: tuple[Condition, ...]
    verdict: Verdict
    origins: frozenset[Origin] = NOWHERE

    @property
    def key(self) -> str:
        """A name for the rule among those of its chain, for as long as it says the same."""
        return digest_of((self,))

    @property
    def counts(self) -> bool:
        """Whether the kernel counts the packets that the rule decides about."""
        return self.verdict in ("accept", "drop", "reset")


def said(rules: Iterable[Rule]) -> list[object]:
    """All that the kernel makes of the rules, the same for equal ones: everything but their origins."""
    return [(rule.conditions, rule.verdict) for rule in rules]


def digest_of(rules: Iterable[Rule]) -> str:
    """A name for what the rules say."""
    return digest(msgspec.json.encode(said(rules)))


def digest(text: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(text).hexdigest()[:16]
