"""What the table does to a packet, rule by rule, as the kernel does it; and which documents each rule comes from.

Shown is a table as it is desired, or the same with the elements that the kernel was seen to hold (`ruleset.holding`).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.intervals import Range, Version, read
from services.agent.core.kernel import NftChain, NftMap, NftSet, Ruleset
from services.agent.core.rule import (
    Clamp,
    Condition,
    Connection,
    Decided,
    Dispatch,
    Echo,
    Interface,
    IpProtocol,
    Jump,
    Local,
    Marked,
    Member,
    Opening,
    Origin,
    Ports,
    Redirect,
    Renumber,
    Rule,
    SetMark,
    Within,
)

State: TypeAlias = Literal["new", "established", "reply", "related", "stray", "invalid"]
"""new: it begins a connection. established: more from the side that began. reply: from the other side. related: an ICMP
error about what the side that began has sent. stray: TCP's, from the middle of a connection that this host has not
seen. invalid: of no connection, as the end of one that is not known."""

Place: TypeAlias = Literal["prerouting", "input", "forward", "output", "postrouting"]

_ICMP: dict[Version, str] = {4: "icmp", 6: "ipv6-icmp"}
_read = lru_cache(maxsize=65536)(read)


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """A packet where this host sees it.

    source, destination: canonical addresses of one family. protocol: "tcp", "udp", "icmp" (of either family; what
    begins or goes on is an echo request, and no probe of ours) or any other name. port: destination port, 0 where there
    is none. in_interface: "" when the host itself sends it; out_interface: "" when it is for the host itself. syn: it
    opens a TCP connection, or agrees to one.
    """

    source: str
    destination: str
    protocol: str = "tcp"
    port: int = 0
    in_interface: str = ""
    out_interface: str = ""
    state: State = "new"
    syn: bool = False
    mark: int = 0
    connection_mark: int = 0

    @property
    def version(self) -> Version:
        return 6 if ":" in self.source else 4


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that the packet matched: its chain and place there.

    origins: those of the rule's that speak of this packet, sorted. element: of a verdict map, which one decided.
    """

    chain: str
    number: int
    rule: Rule
    origins: tuple[Origin, ...] = ()
    element: str = ""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a packet. steps: in the order they were taken, the last one is that which ends it, if one does.

    masqueraded: it leaves with an address of this host. mark, connection_mark: what they are in the end.
    """

    verdict: Decided
    steps: tuple[Step, ...]
    masqueraded: bool
    mark: int
    connection_mark: int


def trace(ruleset: Ruleset | None, packet: Packet) -> Trace:
    """What the table does to the packet; without one it passes."""
    walk = _Walk(ruleset or Ruleset(), packet)
    verdict = walk.run()
    return Trace(
        verdict=verdict,
        steps=tuple(walk.steps),
        masqueraded=walk.masqueraded,
        mark=walk.marks["packet"],
        connection_mark=walk.marks["connection"],
    )


def _places(packet: Packet) -> Iterator[Place]:
    """Where the packet comes by, in order (the hooks of netfilter)."""
    yield "prerouting" if packet.in_interface else "output"
    if packet.in_interface:
        yield "forward" if packet.out_interface else "input"
    if packet.out_interface:
        yield "postrouting"


class _Walk:
    """One packet on its way. marks: as the rules have left them so far."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self._chains: dict[str, NftChain] = {chain.name: chain for chain in ruleset.chains}
        self._sets: dict[str, NftSet] = {one.name: one for one in ruleset.sets}
        self._maps: dict[str, NftMap] = {one.name: one for one in ruleset.maps}
        self._packet = packet
        self.marks = {"packet": packet.mark, "connection": packet.connection_mark}
        self.masqueraded = False
        self.steps: list[Step] = []

    def run(self) -> Decided:
        """An accept ends the chain of its hook, anything else the packet."""
        for place in _places(self._packet):
            for name in self._asked(place):
                decided = self._chain(name, None)
                if decided is not None and decided != "accept":
                    return decided
        return "accept"

    def _asked(self, place: Place) -> list[str]:
        """The base chains of the place, in order. What translates addresses is asked once for each connection, and what
        came of it in prerouting holds for all that the same side sends."""
        hooks = [(chain.hook, name) for name, chain in self._chains.items() if chain.hook and chain.hook.at == place]
        state = self._packet.state
        is_first = state in ("new", "stray") or (place == "prerouting" and state == "established")
        asked = [(hook.priority, name) for hook, name in hooks if hook.type != "nat" or is_first]
        return [name for _, name in sorted(asked)]

    def _chain(self, name: str, routes: frozenset[str] | None) -> Decided | None:
        """What the rules decide, None when they do not. routes: ids of those that led here, None when none did."""
        for number, rule in enumerate(self._chains[name].rules):
            if not all(map(self._holds, rule.conditions)):
                continue
            element = self._element(rule.verdict) if isinstance(rule.verdict, Dispatch) else ""
            if element is None:
                continue
            origins = tuple(sorted(one for one in rule.origins if self._speaks(one, routes)))
            self.steps.append(Step(chain=name, number=number, rule=rule, origins=origins, element=element))
            if decided := self._do(rule, element):
                return decided
        return None

    def _do(self, rule: Rule, element: str) -> Decided | None:
        match rule.verdict:
            case "accept" | "drop" | "reset":
                return rule.verdict
            case "masquerade":
                self.masqueraded = True
                return "accept"
            case Jump(chain):
                return self._chain(chain, None)
            case Dispatch(_, map_name):
                return self._dispatched(self._maps[map_name], element)
            case SetMark(carrier, mark, mask):
                self.marks[carrier] = self.marks[carrier] & ~mask | mark
            case Redirect(port):
                self._packet = replace(self._packet, port=port)
                return "accept"
            case Clamp() | Renumber():
                pass  # changes what the packet asks for, and not where it goes
        return None

    def _dispatched(self, one: NftMap, element: str) -> Decided | None:
        verdict = one.elements[element]
        match verdict.split():
            case ["jump", chain]:
                return self._chain(chain, one.routes.get(element))
            case ["accept"]:
                return "accept"
        return "drop"

    def _element(self, verdict: Dispatch) -> str | None:
        """The element of the map that covers the packet's destination."""
        if verdict.version != self._packet.version:
            return None
        elements = self._maps[verdict.map_name].elements
        return next((key for key in elements if self._is_in(key, self._packet.destination)), None)

    def _holds(self, condition: Condition) -> bool:
        packet = self._packet
        match condition:
            case Interface(direction, name, other):
                return ((packet.in_interface if direction == "in" else packet.out_interface) == name) != other
            case Member(version, _, set_name):
                return version == packet.version and self._is_member(self._sets[set_name], self._address(condition))
            case Within(version, _, prefix):
                return version == packet.version and self._is_in(prefix, self._address(condition))
            case IpProtocol(name):
                return name == (_ICMP[packet.version] if packet.protocol == "icmp" else packet.protocol)
            case Ports(protocol, ports):
                return protocol == packet.protocol and _is_one_of(packet.port, ports)
            case Connection(state):
                return packet.state == state or (state == "answer" and packet.state in ("reply", "related"))
            case Marked(carrier, mark, mask):
                return self.marks[carrier] & mask == mark
            case Local():
                return not packet.out_interface
            case Opening(version):
                return version == packet.version and packet.protocol == "tcp" and packet.syn
            case Echo():
                return False  # nobody asks what becomes of a probe

    def _address(self, condition: Member | Within) -> str:
        return self._packet.source if condition.field == "source" else self._packet.destination

    def _is_member(self, one: NftSet, address: str) -> bool:
        if not one.interval:
            return address in one.elements
        return any(self._is_in(element, address) for element in one.elements)

    def _is_in(self, element: str, address: str) -> bool:
        version = self._packet.version
        piece = _read(element, version)
        return piece.first <= _read(address, version).first <= piece.last

    def _speaks(self, origin: Origin, routes: frozenset[str] | None) -> bool:
        """Whether this origin is a reason for the rule to match the packet."""
        if routes is not None and origin.route not in routes:
            return False
        return not origin.ports or _is_one_of(self._packet.port, origin.ports)


def _is_one_of(port: int, ports: tuple[Range, ...]) -> bool:
    return any(piece.first <= port <= piece.last for piece in ports)
