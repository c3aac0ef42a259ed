"""A rule of the table in nft's words."""

from typing import assert_never

from services.agent.core.intervals import Range, Version
from services.agent.core.kernel import Count
from services.agent.core.rule import (
    Carrier,
    Clamp,
    Condition,
    Connection,
    Dispatch,
    Echo,
    Field,
    Interface,
    IpProtocol,
    Jump,
    Local,
    Marked,
    Member,
    Opening,
    Ports,
    Redirect,
    Renumber,
    Rule,
    SetMark,
    Verdict,
    Within,
)

NOTHING_YET = Count()

_IP: dict[Version, str] = {4: "ip", 6: "ip6"}
_FIELD: dict[Field, str] = {"source": "saddr", "destination": "daddr"}
_MARK: dict[Carrier, str] = {"packet": "meta mark", "connection": "ct mark"}
_DIRECTION = {"in": "iifname", "out": "oifname"}
_CONNECTION = {
    "related": "ct state related",
    "answer": "ct direction reply",
    "reply": "ct direction reply ct state established",
    "stray": "ct state new tcp flags & (syn | rst) == 0",
    "invalid": "ct state invalid",
}
_PLAIN = {"accept": "accept", "drop": "drop", "masquerade": "masquerade", "reset": "reject with tcp reset"}


def rule_text(rule: Rule, count: Count = NOTHING_YET) -> str:
    """The rule without its comment. count: where its counter begins, if it has one."""
    counter = (_counter(count),) if rule.counts else ()
    return " ".join((*map(_condition, rule.conditions), *counter, _verdict(rule.verdict)))


def _counter(count: Count) -> str:
    return f"counter packets {count.packets} bytes {count.bytes}" if count.packets else "counter"


def _condition(condition: Condition) -> str:
    match condition:
        case Member(version, field, set_name):
            return f"{_IP[version]} {_FIELD[field]} @{set_name}"
        case Ports(protocol, ports):
            return f"{protocol} dport {_ports(ports)}"
        case Interface(direction, name, other):
            return f'{_DIRECTION[direction]} {"!= " if other else ""}"{name}"'
        case Within(version, field, prefix):
            return f"{_IP[version]} {_FIELD[field]} {prefix}"
        case IpProtocol(name):
            return f"meta l4proto {name}"
        case Connection(state):
            return _CONNECTION[state]
        case Marked(carrier, mark, mask):
            return f"{_MARK[carrier]} & {mask:#x} == {mark:#x}"
        case Local():
            return "fib daddr type local"
        case Opening(version):
            return f"meta nfproto ipv{version} tcp flags & (syn | rst) == syn"
        case Echo(version, identifier):
            name = "icmp" if version == 4 else "icmpv6"
            return f"{name} type echo-request {name} id {identifier}"
    assert_never(condition)


def _verdict(verdict: Verdict) -> str:
    if isinstance(verdict, str):
        return _PLAIN[verdict]
    match verdict:
        case Jump(chain):
            return f"jump {chain}"
        case Dispatch(version, map_name):
            return f"{_IP[version]} daddr vmap @{map_name}"
        case SetMark(carrier, mark, mask):
            what = _MARK[carrier]
            return f"{what} set {what} & {~mask & 0xFFFFFFFF:#x} | {mark:#x}"
        case Clamp(size):
            return f"tcp option maxseg size set {size}"
        case Renumber(version, sequence):
            return f"{'icmp' if version == 4 else 'icmpv6'} sequence set {sequence}"
        case Redirect(port):
            return f"redirect to :{port}"
    assert_never(verdict)


def _ports(ports: tuple[Range, ...]) -> str:
    texts = [str(port.first) if port.first == port.last else f"{port.first}-{port.last}" for port in ports]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"
