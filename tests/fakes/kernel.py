"""A kernel in memory: it takes the steps of a plan and answers where packets go and who gets through.

It knows nothing of documents. What the nftables rules do to a packet is told by the agent's own core/firewall/trace.py,
which tests/property/agent/test_trace_in_kernel.py holds to the real kernel.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Literal

from msgspec.structs import replace

from services.agent.core.desired_state import Observed
from services.agent.core.firewall.ruleset import Elements, Replace, elements, holding, shape
from services.agent.core.firewall.trace import Packet, State, Trace, trace
from services.agent.core.kernel import (
    INTERFACE,
    FloatingAddress,
    Link,
    ObservedRuleset,
    RouteEntry,
    RuleEntry,
    RuleKey,
    Ruleset,
    SysctlEntry,
    WireGuardDevice,
    WireGuardPeer,
)
from services.agent.core.reconcile.steps import Delete, Destroy, Step, Upsert
from services.agent.core.reconcile.tables import TABLES
from services.agent.core.rule import Dispatch

LAN = "lan0"
"""The interface that everything leaves by which does not go into the tunnel."""
OWN: dict[bool, str] = {False: "100.64.0.1", True: "fd00:64::1"}
"""An address of this host, of IPv6 or not; which one, the table never asks."""

OPEN = "open"
"""The packet takes the host's own default route."""
NOBODY = "nobody"
"""The packet goes into the tunnel, where no peer has its destination: WireGuard refuses it."""
UNREACHABLE = "unreachable"


class FakeKernel:
    """One host. sysctls: what it has, path → value; own: prefixes in the main table besides the default."""

    def __init__(self, observed: Observed | None = None, *, sysctls: Mapping[str, str] | None = None) -> None:
        start = observed or Observed()
        self.links: dict[str, Link] = dict(start.links)
        self.devices: dict[str, WireGuardDevice] = dict(start.devices)
        self.peers: dict[str, WireGuardPeer] = dict(start.peers)
        self.routes: dict[str, RouteEntry] = dict(start.routes)
        self.rules: dict[RuleKey, RuleEntry] = dict(start.rules)
        self.floating: dict[str, FloatingAddress] = dict(start.floating)
        self.sysctls: dict[str, str] = dict(sysctls or {})
        self.ruleset: Ruleset | None = None
        self.filled: dict[str, dict[str, float]] = {}
        """What is in dynamic sets: name → address → seconds left."""
        self.own: list[str] = []

    def observe(self) -> Observed:
        table = self.ruleset
        return Observed(
            links=dict(self.links),
            devices=dict(self.devices),
            peers=dict(self.peers),
            routes=dict(self.routes),
            rules=dict(self.rules),
            floating=dict(self.floating),
            ruleset=ObservedRuleset(shape=shape(table) if table else "", elements=elements(table) if table else {}),
            sysctls={path: SysctlEntry(path=path, value=value) for path, value in self.sysctls.items()},
        )

    def apply(self, steps: Iterable[Step], *, refuse_ruleset: bool = False) -> None:
        """Take the steps as the agent's loop does. refuse_ruleset: every write of the table fails."""
        refused = False
        for step in steps:
            match step:
                case Replace() | Elements() | Destroy():
                    if refuse_ruleset:
                        refused = True
                    else:
                        self._write_ruleset(step)
                case Upsert() | Delete():
                    if not (refused and step.opens):
                        self._take(step)

    def fill(self, elements: Mapping[str, Mapping[str, float]]) -> str | None:
        """Put addresses into dynamic sets for so many seconds: all, or none and why."""
        dynamic = _dynamic(self.ruleset)
        for name, timeouts in elements.items():
            if name not in dynamic or any((":" in address) != (dynamic[name] == "ipv6_addr") for address in timeouts):
                return f"{name} takes none of these"
        for name, timeouts in elements.items():
            self.filled[name] = {**self.filled.get(name, {}), **timeouts}
        return None

    def passes(self, seconds: float) -> None:
        """Time passes, and what was not refreshed is gone."""
        self.filled = {
            name: {address: left - seconds for address, left in timeouts.items() if left > seconds}
            for name, timeouts in self.filled.items()
        }

    def where(self, address: str, *, mark: int = 0) -> str:
        """The public key of the peer that gets a packet of this host to the address, or OPEN, NOBODY, UNREACHABLE."""
        family: Literal["v4", "v6"] = "v6" if ":" in address else "v4"
        for (its_family, _), rule in sorted(self.rules.items(), key=lambda item: item[1].priority):
            if its_family != family:
                continue
            if rule.not_mark is not None and mark & rule.not_mark[1] == rule.not_mark[0]:
                continue
            if rule.unreachable:
                return UNREACHABLE
            found = self._main(address) if rule.table == 254 else self._overlay(address)
            if found is not None:
                return found
        return self._main(address) or OPEN

    def forwards(self, src: str, dst: str, proto: str = "tcp", port: int = 80, state: State = "new") -> bool:
        """Whether a packet from the tunnel passes through this host."""
        path = "net/ipv6/conf/all/forwarding" if ":" in dst else "net/ipv4/ip_forward"
        return self._is_up() and self.sysctls.get(path) == "1" and self._passes(src, dst, LAN, proto, port, state)

    def accepts(self, src: str, proto: str = "tcp", port: int = 80, state: State = "new") -> bool:
        """Whether a packet from the tunnel reaches this host itself."""
        return self._is_up() and self._passes(src, OWN[":" in src], "", proto, port, state)

    def masquerades(self, src: str, dst: str) -> bool:
        """Whether a packet that begins a connection would leave with this host's own address, if it passed."""
        assert self.ruleset is not None
        asked = tuple(chain for chain in self.ruleset.chains if chain.hook is None or chain.hook.type == "nat")
        packet = Packet(source=src, destination=dst, in_interface=INTERFACE, out_interface=LAN)
        table = holding(self.ruleset, {**elements(self.ruleset), **self.filled})
        return trace(replace(table, chains=asked), packet).masqueraded

    def _passes(self, src: str, dst: str, out: str, proto: str, port: int, state: State) -> bool:
        packet = Packet(
            source=src,
            destination=dst,
            protocol=proto,
            port=port,
            in_interface=INTERFACE,
            out_interface=out,
            state=state,
        )
        return self._trace(packet).verdict == "accept"

    def _is_up(self) -> bool:
        return any(link.up and link.addresses for link in self.links.values())

    def _main(self, address: str) -> str | None:
        prefixes = [*self.own, *(prefix for link in self.links.values() for prefix in link.addresses)]
        if any(_within(address, prefix) for prefix in self.own):
            return OPEN
        return self._tunnel(address) if any(_within(address, prefix) for prefix in prefixes) else None

    def _overlay(self, address: str) -> str | None:
        best = _longest(address, self.routes)
        if best is None:
            return None
        return UNREACHABLE if self.routes[best].unreachable else self._tunnel(address)

    def _tunnel(self, address: str) -> str:
        owners = {prefix: key for key, peer in self.peers.items() for prefix in peer.allowed_ips}
        best = _longest(address, owners)
        return owners[best] if best is not None else NOBODY

    def _take(self, step: Upsert | Delete) -> None:
        field = next(table.field for table in TABLES if table.kind == step.kind)
        held: dict[object, object] = getattr(self, field)
        if isinstance(step, Delete):
            for key in step.keys:
                del held[key]
            if step.kind == "link":
                self._forget_device()
            return
        for key, entry in step.entries.items():
            if step.kind == "peer":
                self._set_peer(entry)
            else:
                held[key] = entry.value if isinstance(entry, SysctlEntry) else entry

    def _set_peer(self, peer: WireGuardPeer) -> None:
        """An allowed IP has one peer: who gets it takes it from whoever had it. No endpoint means the one it has."""
        former = self.peers.get(peer.public_key)
        for key, other in self.peers.items():
            self.peers[key] = replace(other, allowed_ips=other.allowed_ips - peer.allowed_ips)
        endpoint = peer.endpoint or (former.endpoint if former else "")
        self.peers[peer.public_key] = replace(peer, endpoint=endpoint)

    def _forget_device(self) -> None:
        """What goes with the interface."""
        self.devices.clear()
        self.peers.clear()
        for prefix in [prefix for prefix, route in self.routes.items() if not route.unreachable]:
            del self.routes[prefix]

    def _write_ruleset(self, step: Replace | Elements | Destroy) -> None:
        match step:
            case Replace():
                self.replace(step.ruleset)
            case Destroy():
                self.replace(None)
            case Elements():
                assert self.ruleset is not None
                assert shape(self.ruleset) == step.shape
                self.ruleset = _changed(self.ruleset, step)

    def replace(self, ruleset: Ruleset | None) -> None:
        """Write the whole table; dynamic sets of the same name and type keep what is in them."""
        kept = dict(_dynamic(self.ruleset).items() & _dynamic(ruleset).items())
        self.ruleset = ruleset
        self.filled = {name: timeouts for name, timeouts in self.filled.items() if name in kept}

    def _trace(self, packet: Packet) -> Trace:
        table = self.ruleset
        if table and self.filled:
            table = holding(table, {**elements(table), **self.filled})
        found = trace(table, packet)
        maps = {one.name: one.elements for one in self.ruleset.maps} if self.ruleset else {}
        for step in found.steps:
            if isinstance(step.rule.verdict, Dispatch):
                pieces = [key for key in maps[step.rule.verdict.map_name] if _holds(key, packet.destination)]
                assert len(pieces) == 1, "the elements of a map overlap"
        return found


def _changed(ruleset: Ruleset, step: Elements) -> Ruleset:
    nothing: frozenset[str] = frozenset()
    maps = {one.name for one in ruleset.maps}
    changed = {}
    for name, held in elements(ruleset).items():
        kept = nothing if name in step.anew else held
        assert name not in maps or step.remove.get(name, nothing) <= kept
        changed[name] = kept - step.remove.get(name, nothing) | step.add.get(name, nothing)
    return holding(ruleset, changed)


@cache
def _holds(element: str, address: str) -> bool:
    if not address or (":" in element) != (":" in address):
        return False
    if "-" in element:
        first, last = element.split("-")
        return int(ip_address(first)) <= int(ip_address(address)) <= int(ip_address(last))
    return _within(address, element)


@cache
def _within(address: str, prefix: str) -> bool:
    network = ip_network(prefix, strict=False)
    return ip_address(address).version == network.version and ip_address(address) in network


def _dynamic(ruleset: Ruleset | None) -> dict[str, str]:
    """The dynamic sets: name → type."""
    return {one.name: one.type for one in (ruleset.sets if ruleset else ()) if one.dynamic}


def _longest(address: str, prefixes: Iterable[str]) -> str | None:
    holding = [prefix for prefix in prefixes if _within(address, prefix)]
    return max(holding, key=lambda prefix: int(prefix.partition("/")[2]), default=None)
