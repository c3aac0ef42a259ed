"""A kernel in memory: it takes the steps of a plan and answers where packets go and who gets through.

It knows nothing of documents. The nftables rules are read as text, rule by rule, as the kernel would evaluate them.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Literal

import msgspec
from msgspec.structs import replace

from services.agent.core.firewall.ruleset import Elements, Replace, elements, shape
from services.agent.core.kernel import (
    INTERFACE,
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
from services.agent.core.reconcile.desired_state import Observed
from services.agent.core.reconcile.order import Delete, Destroy, Step, Upsert

Verdict = Literal["accept", "drop", "masquerade"]
State = Literal["new", "reply", "related"]

OPEN = "open"
"""The packet takes the host's own default route."""
NOBODY = "nobody"
"""The packet goes into the tunnel, where no peer has its destination: WireGuard refuses it."""
UNREACHABLE = "unreachable"


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """proto: "tcp", "udp", "icmp" (of either family). port: destination port, 0 where there is none."""

    src: str
    dst: str
    proto: str = "tcp"
    port: int = 80
    state: State = "new"
    iif: str = INTERFACE
    oif: str = "lan0"


class FakeKernel:
    """One host. sysctls: what it has, path → value; own: prefixes in the main table besides the default."""

    def __init__(self, observed: Observed | None = None, *, sysctls: Mapping[str, str] | None = None) -> None:
        start = observed or Observed()
        self.links: dict[str, Link] = dict(start.links)
        self.devices: dict[str, WireGuardDevice] = dict(start.devices)
        self.peers: dict[str, WireGuardPeer] = dict(start.peers)
        self.routes: dict[str, RouteEntry] = dict(start.routes)
        self.rules: dict[RuleKey, RuleEntry] = dict(start.rules)
        self.sysctls: dict[str, str] = dict(sysctls or {})
        self.ruleset: Ruleset | None = None
        self.own: list[str] = []

    def observe(self) -> Observed:
        table = self.ruleset
        return Observed(
            links=dict(self.links),
            devices=dict(self.devices),
            peers=dict(self.peers),
            routes=dict(self.routes),
            rules=dict(self.rules),
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
        packet = Packet(src=src, dst=dst, proto=proto, port=port, state=state)
        return self._is_up() and self.sysctls.get(path) == "1" and self._verdict("forward", packet) != "drop"

    def accepts(self, src: str, proto: str = "tcp", port: int = 80, state: State = "new") -> bool:
        """Whether a packet from the tunnel reaches this host itself."""
        packet = Packet(src=src, dst="", proto=proto, port=port, state=state)
        return self._is_up() and self._verdict("input", packet) != "drop"

    def masquerades(self, src: str, dst: str) -> bool:
        """Whether a forwarded packet leaves with this host's own address."""
        return self._verdict("postrouting", Packet(src=src, dst=dst)) == "masquerade"

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
        tables: dict[str, dict[object, object]] = {
            "link": self.links,  # type: ignore[dict-item]
            "device": self.devices,  # type: ignore[dict-item]
            "peer": self.peers,  # type: ignore[dict-item]
            "route": self.routes,  # type: ignore[dict-item]
            "rule": self.rules,  # type: ignore[dict-item]
            "sysctl": self.sysctls,  # type: ignore[dict-item]
        }
        if isinstance(step, Delete):
            for key in step.keys:
                del tables[step.kind][key]
            if step.kind == "link":
                self._forget_device()
            return
        for key, entry in step.entries.items():
            if step.kind == "peer":
                self._set_peer(entry)
            else:
                tables[step.kind][key] = entry.value if isinstance(entry, SysctlEntry) else entry

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
                self.ruleset = step.ruleset
            case Destroy():
                self.ruleset = None
            case Elements():
                assert self.ruleset is not None
                assert shape(self.ruleset) == step.shape
                self.ruleset = _changed(self.ruleset, step)

    def _verdict(self, hook: str, packet: Packet) -> Verdict:
        if self.ruleset is None:
            return "accept"
        chain = next(
            chain for chain in self.ruleset.chains if f"hook {hook} priority" in chain.hook and _filters(chain.hook)
        )
        return _Evaluation(self.ruleset, packet).run(chain.name) or "accept"


class _Evaluation:
    """One packet on its way through the chains."""

    def __init__(self, ruleset: Ruleset, packet: Packet) -> None:
        self._chains = {chain.name: chain for chain in ruleset.chains}
        self._sets = {one.name: one.elements for one in ruleset.sets}
        self._maps = {one.name: one.elements for one in ruleset.maps}
        self._packet = packet

    def run(self, chain: str) -> Verdict | None:
        for rule in self._chains[chain].rules:
            verdict = self._rule(rule.split())
            if verdict is not None:
                return verdict
        return None

    def _rule(self, words: list[str]) -> Verdict | None:
        """The verdict of a rule, None when it does not match or a chain it jumped to returned."""
        packet, v6 = self._packet, ":" in self._packet.src
        while words:
            match words:
                case ["iifname", "!=", name, *words]:
                    matches = name != f'"{packet.iif}"'
                case ["iifname", name, *words]:
                    matches = name == f'"{packet.iif}"'
                case ["oifname", "!=", name, *words]:
                    matches = name != f'"{packet.oif}"'
                case ["oifname", name, *words]:
                    matches = name == f'"{packet.oif}"'
                case [("ip" | "ip6") as family, "saddr", prefix, *words] if "/" in prefix:
                    matches = v6 == (family == "ip6") and _within(packet.src, prefix)
                case [("ip" | "ip6") as family, "saddr", name, *words]:
                    matches = v6 == (family == "ip6") and any(
                        _holds(key, packet.src) for key in self._sets[name.removeprefix("@")]
                    )
                case [("ip" | "ip6") as family, "daddr", "vmap", name, *words]:
                    found = [verdict for key, verdict in self._maps[name.removeprefix("@")] if _holds(key, packet.dst)]
                    matches = v6 == (family == "ip6") and bool(found)
                    assert len(found) <= 1, "the elements of a map overlap"
                    words = found[0].split() if found else []
                case [("ip" | "ip6") as family, "daddr", name, *words]:
                    found = [key for key in self._sets[name.removeprefix("@")] if _holds(key, packet.dst)]
                    matches = v6 == (family == "ip6") and bool(found)
                case ["meta", "l4proto", name, *words]:
                    matches = packet.proto == {"ipv6-icmp": "icmp"}.get(name, name)
                    assert packet.proto != "icmp" or name in ("tcp", "udp") or name == ("ipv6-icmp" if v6 else "icmp")
                case [("tcp" | "udp") as name, "dport", "{", *rest]:
                    end = rest.index("}")
                    matches = packet.proto == name and any(_has_port(text, packet.port) for text in rest[:end])
                    words = rest[end + 1 :]
                case [("tcp" | "udp") as name, "dport", text, *words]:
                    matches = packet.proto == name and _has_port(text, packet.port)
                case ["ct", "state", "related", *words]:
                    matches = packet.state == "related"
                case ["ct", "direction", "reply", "ct", "state", "established", *words]:
                    matches = packet.state == "reply"
                case ["jump", chain]:
                    return self.run(chain)
                case ["accept"]:
                    return "accept"
                case ["drop"]:
                    return "drop"
                case ["masquerade"]:
                    return "masquerade"
                case _:
                    raise AssertionError(f"unknown words in a rule: {words}")
            if not matches:
                return None
        return None


def _filters(hook: str) -> bool:
    """The chains that decide; the one that clamps segment sizes does not."""
    return "priority -150" not in hook


def _changed(ruleset: Ruleset, step: Elements) -> Ruleset:
    nothing: frozenset[str] = frozenset()
    sets = []
    for held in ruleset.sets:
        kept = nothing if held.name in step.anew else held.elements - step.remove.get(held.name, nothing)
        sets.append(replace(held, elements=kept | step.add.get(held.name, nothing)))
    maps = []
    for one in ruleset.maps:
        texts = {f"{key} : {verdict}" for key, verdict in one.elements if one.name not in step.anew}
        assert step.remove.get(one.name, nothing) <= texts
        texts = texts - step.remove.get(one.name, nothing) | step.add.get(one.name, nothing)
        pairs = [text.split(" : ") for text in sorted(texts)]
        maps.append(replace(one, elements=tuple((key, verdict) for key, verdict in pairs)))
    return replace(ruleset, sets=tuple(sets), maps=tuple(maps))


@cache
def _holds(element: str, address: str) -> bool:
    if not address or (":" in element) != (":" in address):
        return False
    if "-" in element:
        first, last = element.split("-")
        return int(ip_address(first)) <= int(ip_address(address)) <= int(ip_address(last))
    return _within(address, element)


def _has_port(text: str, port: int) -> bool:
    first, _, last = text.strip(",").partition("-")
    return int(first) <= port <= int(last or first)


@cache
def _within(address: str, prefix: str) -> bool:
    network = ip_network(prefix, strict=False)
    return ip_address(address).version == network.version and ip_address(address) in network


def _longest(address: str, prefixes: Iterable[str]) -> str | None:
    holding = [prefix for prefix in prefixes if _within(address, prefix)]
    return max(holding, key=lambda prefix: int(prefix.partition("/")[2]), default=None)
