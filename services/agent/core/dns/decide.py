"""What a question comes to: an answer from documents, or whom to ask; and why no other rule had it."""

from typing import TypeAlias

import msgspec

from services.agent.core.dns.names import Labels, labels, text
from services.agent.core.dns.rules import HostServers, Routed, Rule, Rules, Served, Zoned
from services.agent.core.dns.zones import Presence
from shared.events.documents import DnsRecord

CHAIN_LIMIT = 8
"""Names that a CNAME of ours may lead on to (reference agent §5.2)."""

LOOPS = f"its CNAMEs lead in a circle, or on for more than {CHAIN_LIMIT} names"


class Passed(msgspec.Struct, frozen=True):
    """A rule that had the name and did not answer it. why: for people."""

    rule: Rule
    why: str


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Answered from documents. records: a chain of CNAMEs and what it ends in; () where there are none of the type.

    exists: whether the last name does. rule: the one that had the last name.
    """

    records: tuple[DnsRecord, ...]
    exists: bool
    rule: Zoned
    passed: tuple[Passed, ...] = ()


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Others answer for `name`, which the CNAMEs in `records` lead to; without any it is the one that was asked for."""

    name: Labels
    rule: Routed | Served | HostServers
    records: tuple[DnsRecord, ...] = ()
    passed: tuple[Passed, ...] = ()


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody can answer. why: for people."""

    why: str
    passed: tuple[Passed, ...] = ()


Decided: TypeAlias = Known | Ask | Failed


def decide(rules: Rules, name: Labels, kind: str, presence: Presence = Presence()) -> Decided:
    """kind: the type that is asked for, as text. A CNAME in a zone is followed by the rules for its target."""
    chain: list[DnsRecord] = []
    passed: list[Passed] = []
    while len(chain) <= CHAIN_LIMIT:
        found = _first(rules, name, kind, presence, passed)
        if isinstance(found, Routed | Served | HostServers):
            return Ask(name=name, rule=found, records=tuple(chain), passed=tuple(passed))
        rule, records = found
        chain += (_named(record, name) for record in records or ())
        if not records or kind == "CNAME" or records[-1].type != "CNAME":
            return Known(records=tuple(chain), exists=records is not None, rule=rule, passed=tuple(passed))
        name = labels(records[-1].content)
    return Failed(why=LOOPS, passed=tuple(passed))


def _first(
    rules: Rules, name: Labels, kind: str, presence: Presence, passed: list[Passed]
) -> Routed | Served | HostServers | tuple[Zoned, tuple[DnsRecord, ...] | None]:
    """The rule that answers, a zone with what it has."""
    for rule in rules.of(name):
        if not isinstance(rule, Zoned):
            return rule
        records = rule.names.find(name, kind, presence)
        if records is not None or rule.final:
            return rule, records
        passed.append(Passed(rule, f"the zone has no name {text(name)}"))
    raise AssertionError("the host's own servers answer whatever nothing else does")


def _named(record: DnsRecord, name: Labels) -> DnsRecord:
    """A record of a wildcard under the name that was asked for, a dot within a label escaped."""
    return DnsRecord(text(name), record.type, record.content, record.ttl_s)
