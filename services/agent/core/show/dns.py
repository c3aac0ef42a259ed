"""What `debug dns` shows of a question: the answer, who gave it, and what every other rule that has the name says."""

from collections.abc import Iterable, Mapping

import dns.rcode
import msgspec

from services.agent.core.dns.decide import Passed
from services.agent.core.dns.messages import Question
from services.agent.core.dns.names import text
from services.agent.core.dns.outcome import Outcome
from services.agent.core.dns.rules import HostServers, Routed, Rule, Rules, Served, Zoned
from services.agent.core.parsed import Peer
from shared.events.documents import DnsServer

LATER = "not asked: another rule goes first"
ANSWERED = "answers"
FAILED = "has the name, and gave no answer"


class ShownRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that has the name. rule: for people. said: what became of it."""

    rule: str
    said: str


class Explained(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """rcode, answers: as programs get them, a record a line. server: "" where this host answered itself, with the name
    of a routing peer. why: what went wrong, "" if nothing did. rules: in the order in which they are asked."""

    name: str
    type: str
    rcode: str
    answers: tuple[str, ...]
    rule: str
    server: str
    took_ms: float
    why: str
    rules: tuple[ShownRule, ...]


def described(rule: Rule) -> str:
    """The rule for people."""
    match rule:
        case Routed(domain=domain, keys=keys):
            return f"route {domain} of network {', '.join(key[0] for key in keys)}"
        case Zoned(zone_id=zone_id, domain=domain, final=final):
            return f"names of peers in {domain}" if final else f"zone {domain} ({zone_id})"
        case Served(domain=domain, ids=ids, groups=groups):
            servers = ", ".join(server.address for group in groups for server in group)
            return f"nameserver group {', '.join(ids)} for {domain or 'everything'} ({servers})"
        case HostServers(servers=servers):
            return f"this host's own servers ({', '.join(server.address for server in servers) or 'none'})"


def explained_rules(
    those: Iterable[Rule], answering: Rule | None, passed: Iterable[Passed], why: str
) -> tuple[ShownRule, ...]:
    """those: the rules that have the name, in order. why: what went wrong."""
    reasons = [(one.rule, one.why) for one in passed]
    shown = []
    for rule in those:
        said = next((reason for other, reason in reasons if other is rule), "")
        if rule == answering:
            said = FAILED if why else ANSWERED
        shown.append(ShownRule(rule=described(rule), said=said or LATER))
    return tuple(shown)


def server_name(server: DnsServer | None, peers: Mapping[str, Peer]) -> str:
    """Address and port, and whose it is."""
    if server is None:
        return ""
    host = f"[{server.address}]" if ":" in server.address else server.address
    peer = next((peer for peer in peers.values() if server.address in (peer.v4, peer.v6)), None)
    return f"{host}:{server.port}" + (f" ({peer.fqdn})" if peer else "")


def explained(asked: Question, outcome: Outcome, took_s: float, rules: Rules, peers: Mapping[str, Peer]) -> Explained:
    """rules: those that answered."""
    return Explained(
        name=text(asked.name),
        type=asked.kind,
        rcode=dns.rcode.to_text(outcome.message.rcode()),
        answers=tuple(line for rrset in outcome.message.answer for line in rrset.to_text().splitlines()),
        rule=described(outcome.rule) if outcome.rule is not None else "",
        server=server_name(outcome.server, peers),
        took_ms=took_s * 1000,
        why=outcome.why,
        rules=explained_rules(rules.of(asked.name), outcome.rule, outcome.passed, outcome.why),
    )


def no_question(problem: str) -> Explained:
    """problem: what is wrong with what was typed."""
    return Explained(
        name="", type="", rcode="no question", answers=(), rule="", server="", took_ms=0.0, why=problem, rules=()
    )
