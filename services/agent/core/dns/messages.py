"""DNS messages as the local resolver reads and writes them; dnspython is the codec."""

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from services.agent.core.dns.learned import Address, addresses_of
from services.agent.core.dns.names import Labels, labels, labels_of
from shared.events.documents import DnsRecord

Family: TypeAlias = Literal[4, 6]

HEADER_BYTES = 12
PLAIN_UDP_BYTES = 512
"""For who does not say more (RFC 1035 §4.2.1)."""

EDNS_BYTES = 1232
"""What is asked for and sent by UDP at most: the size of DNS flag day 2020, which no path of an overlay fragments."""

TTL_AT_LEAST_S = 5
TTL_AT_MOST_S = 300
"""Of answers for names of routes (decision D5)."""

NEGATIVE_TTL_S = 60
"""That a name of ours does not exist, or has no record of a type, may be believed for so long (RFC 2308)."""

OTHER_ERROR, NOT_READY, NO_REACHABLE = 0, 14, 22
"""Extended errors (RFC 8914)."""

_TRANSFERS = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)


class Question(msgspec.Struct, frozen=True):
    """name: in lower case. kind: the type as text. message: as it came. limit: bytes that its sender takes by UDP."""

    name: Labels
    kind: str
    message: dns.message.Message
    limit: int

    @property
    def family(self) -> Family | None:
        """Of addresses, None where something else is asked for."""
        return {"A": 4, "AAAA": 6}.get(self.kind)  # type: ignore[return-value]


def question(wire: bytes) -> Question | bytes | None:
    """What is asked, or the answer to what is no question for us; None for what deserves none.

    A response is never answered, so that no two servers can talk to each other for ever.
    """
    if len(wire) < HEADER_BYTES or wire[2] & 0x80:
        return None
    if wire[2] & 0x78:
        return _header(wire, dns.rcode.NOTIMP)
    try:
        message = dns.message.from_wire(wire)
    except (dns.exception.DNSException, ValueError):
        return _header(wire, dns.rcode.FORMERR)
    if len(message.question) != 1:
        return _header(wire, dns.rcode.FORMERR)
    asked = message.question[0]
    if asked.rdclass != dns.rdataclass.IN or asked.rdtype in _TRANSFERS:
        return _header(wire, dns.rcode.REFUSED)
    limit = min(max(message.payload, PLAIN_UDP_BYTES), EDNS_BYTES) if message.edns >= 0 else PLAIN_UDP_BYTES
    return Question(labels_of(asked.name), dns.rdatatype.to_text(asked.rdtype), message, limit)


def typed(name: str, kind: str) -> Question:
    """A question as people type it. Raises ValueError for what is no name, or no type."""
    try:
        message = dns.message.make_query(dns.name.from_text(name), kind, use_edns=0)
    except (dns.exception.DNSException, UnicodeError) as problem:
        raise ValueError(f"{name} {kind}: {problem}") from None
    asked = message.question[0]
    return Question(labels_of(asked.name), dns.rdatatype.to_text(asked.rdtype), message, EDNS_BYTES)


def passed_on(asked: Question, name: Labels, id: int) -> dns.message.Message:
    """The question as it goes to somebody else. name: what is asked there. id: nobody can guess it."""
    to = asked.message.question[0].name if name == asked.name else _name(name)
    wants_dnssec = bool(asked.message.ednsflags & dns.flags.DO)
    message = dns.message.make_query(to, asked.message.question[0].rdtype, want_dnssec=wants_dnssec, payload=EDNS_BYTES)
    message.id = id
    message.flags |= asked.message.flags & (dns.flags.CD | dns.flags.AD | dns.flags.RD)
    return message


def answer_to(sent: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    """The answer to what was sent, None where the bytes are none: another question's, cut off, or no message."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return None
    if message.id != sent.id or not message.flags & dns.flags.QR or message.opcode() != dns.opcode.QUERY:
        return None
    if message.question != sent.question and (message.question or message.rcode() == dns.rcode.NOERROR):
        return None
    return message


def is_cut(wire: bytes) -> bool:
    """Whether the answer says that it goes on by TCP; what there is of it may be no whole message."""
    return len(wire) >= HEADER_BYTES and bool(wire[2] & 0x02)


def extended_errors(message: dns.message.Message) -> Iterable[int]:
    """Codes of the message (RFC 8914)."""
    return [int(option.code) for option in message.options if isinstance(option, dns.edns.EDEOption)]


def addresses(message: dns.message.Message) -> tuple[Address, ...]:
    """Those that the answer gives for its question, at the end of its chain of CNAMEs. Raises ChainTooLong."""
    try:
        found = message.resolve_chaining().answer if isinstance(message, dns.message.QueryMessage) else None
    except dns.message.NotQueryResponse:
        return ()
    return addresses_of(record.to_text() for record in found or ())


def replied(
    asked: Question,
    message: dns.message.Message,
    chain: Iterable[DnsRecord] = (),
    *,
    bounded: bool = False,
    without_addresses: bool = False,
) -> dns.message.Message:
    """Somebody's answer as ours. chain: CNAMEs of ours that lead to what was asked there.

    bounded: with TTLs as for names of routes. without_addresses: as if the name had none of the family.
    """
    reply = _reply(asked, message.rcode())
    reply.flags |= message.flags & (dns.flags.AD | dns.flags.CD)
    reply.answer = [*map(_rrset, chain)]
    for rrset in message.answer:
        if without_addresses and rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            continue
        if bounded:
            rrset.ttl = min(max(rrset.ttl, TTL_AT_LEAST_S), TTL_AT_MOST_S)
        reply.answer.append(rrset)
    reply.authority = list(message.authority)
    reply.additional = list(message.additional)
    if asked.message.edns >= 0:
        options = [option for option in message.options if isinstance(option, dns.edns.EDEOption)]
        _with_edns(reply, asked, options)
    return reply


def own(asked: Question, records: Iterable[DnsRecord], *, exists: bool, zone: str) -> dns.message.Message:
    """Our own answer. zone: whose word it is that there is nothing, where there is nothing."""
    reply = _reply(asked, dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
    reply.flags |= dns.flags.AA
    for record in records:
        rrset = _rrset(record)
        same = next((one for one in reply.answer if one.name == rrset.name and one.rdtype == rrset.rdtype), None)
        if same is None:
            reply.answer.append(rrset)
        else:
            same.add(rrset[0])
    if not any(one.rdtype == asked.message.question[0].rdtype for one in reply.answer):
        reply.authority.append(_soa(zone))
    _with_edns(reply, asked, [])
    return reply


def failed(asked: Question, code: int, why: str, *, refused: bool = False) -> dns.message.Message:
    """A whole answer that says why there is none. code: of the extended error; why: for people."""
    reply = _reply(asked, dns.rcode.REFUSED if refused else dns.rcode.SERVFAIL)
    _with_edns(reply, asked, [dns.edns.EDEOption(dns.edns.EDECode(code), why)])
    return reply


def wire(message: dns.message.Message, limit: int) -> bytes:
    """The message, cut off and marked so where it is longer than the limit."""
    return message.to_wire(max_size=limit, prefer_truncation=True)


def _reply(asked: Question, rcode: dns.rcode.Rcode) -> dns.message.Message:
    reply = dns.message.make_response(asked.message, recursion_available=True)
    reply.use_edns(False)
    reply.set_rcode(rcode)
    return reply


def _with_edns(reply: dns.message.Message, asked: Question, options: Collection[dns.edns.Option]) -> None:
    """Nobody gets EDNS who does not speak it."""
    if asked.message.edns >= 0:
        reply.use_edns(0, asked.message.ednsflags & dns.flags.DO, EDNS_BYTES, options=list(options))


def _header(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """An answer that is a header alone: id, opcode and RD of the question."""
    return bytes((*wire[:2], 0x80 | wire[2] & 0x79, 0x80 | rcode)) + bytes(8)


def _rrset(record: DnsRecord) -> dns.rrset.RRset:
    content = f"{record.content}." if record.type == "CNAME" else record.content
    return dns.rrset.from_text(dns.name.from_text(record.name), record.ttl_s, "IN", record.type, content)


def _soa(zone: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(
        _name(labels(zone)), NEGATIVE_TTL_S, "IN", "SOA", f". . 1 3600 600 86400 {NEGATIVE_TTL_S}"
    )


def _name(name: Labels) -> dns.name.Name:
    return dns.name.Name([label.encode("latin-1") for label in (*name, "")])
