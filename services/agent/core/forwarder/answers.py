"""What a nameserver said, as it is kept and passed on; and what a client is sent of it.

An answer is kept as bytes behind the question section. Names in it point to the question's by an offset, so each client
gets its own spelling back, and nothing is put together anew but ids, flags and times.
"""

import io
import struct
from collections.abc import Callable, Iterable, Iterator

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from services.agent.core.forwarder.questions import (
    AAAA,
    CD,
    CNAME,
    HEADER,
    HTTPS,
    NOERROR,
    NXDOMAIN,
    QR,
    RA,
    RD,
    RRSIG,
    SERVFAIL,
    SOA,
    SVCB,
    TC,
    A,
    Question,
    explained,
    lower_section,
    opt_record,
)

SHORTEST_S, LONGEST_S = 5, 300
"""What upstream's TTLs are kept within (decision D5)."""
FAILED_S = 5.0
"""How long a failure is remembered (RFC 9520: 1 s to 5 min)."""
MOST_ALIASES = 16
"""Links of a chain of aliases; resolvers follow 8 to 20."""
TCP_BYTES = 65_535
MOST_BODY_BYTES = TCP_BYTES - 512
"""Leaves room for the header, a question and an OPT record."""

OTHER_ERROR, STALE, STALE_NXDOMAIN, BLOCKED, UNREACHABLE, NETWORK_ERROR = 0, 3, 19, 15, 22, 23
"""Extended errors, of the registry that RFC 8914 began."""

_HINTS = (4, 6)
_MANDATORY = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What there is to say to a question.

    body: records behind the question section, (answers, authorities) of them in `counts`. times: offset in the body →
    TTL. addresses: those it gives, canonical, sorted. left_out: address → why it is not given. ttl_s: for how long it
    is good. why: extended errors.
    """

    rcode: int
    ttl_s: float
    body: bytes = b""
    counts: tuple[int, int] = (0, 0)
    times: tuple[tuple[int, int], ...] = ()
    addresses: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    why: tuple[int, ...] = ()

    @property
    def failed(self) -> bool:
        return self.rcode not in (NOERROR, NXDOMAIN)


class Unusable(Exception):
    """The nameserver's answer says nothing about the question: ask another one. why: an extended error."""

    def __init__(self, why: int = OTHER_ERROR) -> None:
        super().__init__(f"unusable answer ({why})")
        self.why = why


def failure(why: int) -> Answer:
    return Answer(rcode=SERVFAIL, ttl_s=FAILED_S, why=(why,))


def answers_it(question: Question, id: int, packet: bytes) -> bool:
    """Whether the packet claims to answer the question that was asked with that id, whatever it says."""
    section = lower_section(question)
    if len(packet) < HEADER.size + len(section):
        return packet[:2] == id.to_bytes(2) and len(packet) >= HEADER.size and bool(packet[2] & 0x80)
    there = packet[HEADER.size : HEADER.size + len(section)]
    is_same = there[:-4].lower() + there[-4:] == section
    return packet[:2] == id.to_bytes(2) and bool(packet[2] & 0x80) and is_same


def is_cut_off(packet: bytes) -> bool:
    """Whether the nameserver wants to be asked by TCP."""
    return bool(packet[2] & TC >> 8)


def read_answer(question: Question, packet: bytes, never: Callable[[str], str]) -> Answer:
    """What a nameserver's packet says to the question. never: why an address may not be routed, "" where it may.

    Raises Unusable for what is no answer, and for codes by which a nameserver says that it does not know.
    """
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True)
        asked = dns.name.Name((*question.name, b""))
        rcode = int(message.rcode())
        if rcode not in (NOERROR, NXDOMAIN):
            raise Unusable(next((int(one.code) for one in message.extended_errors()), OTHER_ERROR))
        if len(message.question) != 1 or message.question[0].name != asked:
            raise Unusable
        chain, records = _chain(asked, question.kind, message.answer)
        kept, left_out = _kept(records, never)
        return _rendered(question, asked, chain, kept, left_out, message)
    except (dns.exception.DNSException, ValueError, struct.error, KeyError):
        # dnspython names what is wrong with a packet, save for a few kinds of records
        raise Unusable from None


def _chain(
    asked: dns.name.Name, kind: int, answer: Iterable[dns.rrset.RRset]
) -> tuple[list[dns.name.Name], list[dns.rrset.RRset]]:
    """The names that the one asked for stands for, itself first, and the records of them that answer the question."""
    by_name: dict[dns.name.Name, list[dns.rrset.RRset]] = {}
    for one in answer:
        by_name.setdefault(one.name, []).append(one)
    names, records = [asked], list[dns.rrset.RRset]()
    while True:
        here = by_name.get(names[-1], ())
        final = [one for one in here if one.rdtype == kind and one.rdclass == dns.rdataclass.IN]
        alias = next((one for one in here if one.rdtype == CNAME and len(one) == 1), None)
        wanted = final or ([alias] if alias is not None else [])
        records += wanted
        kinds = {int(one.rdtype) for one in wanted}
        records += (one for one in here if one.rdtype == RRSIG and int(one.covers) in kinds)
        if final or alias is None:
            return names, records
        target = alias[0].target
        if target in names or len(names) > MOST_ALIASES:
            raise Unusable
        names.append(target)


def _kept(
    records: Iterable[dns.rrset.RRset], never: Callable[[str], str]
) -> tuple[list[dns.rrset.RRset], dict[str, str]]:
    """The records without addresses that may never be routed; what signs a set that lost one signs nothing."""
    kept, left_out, touched = list[dns.rrset.RRset](), dict[str, str](), set[int]()
    for one in records:
        if one.rdtype == RRSIG and int(one.covers) in touched:
            continue
        if one.rdtype in (A, AAAA):
            refused = {rdata.address: reason for rdata in one if (reason := never(rdata.address))}
            left_out |= refused
            changed = [rdata for rdata in one if rdata.address not in refused]
        elif one.rdtype in (SVCB, HTTPS):
            changed = [rdata for rdata in map(_without_hints, one) if rdata is not None]
        else:
            kept.append(one)
            continue
        if changed != list(one):
            touched.add(int(one.rdtype))
        if changed:
            kept.append(dns.rrset.from_rdata_list(one.name, one.ttl, changed))
    return kept, left_out


def _without_hints(rdata: dns.rdata.Rdata) -> dns.rdata.Rdata | None:
    """The service without addresses, which are to be asked for, so that they are known here; None if it needs them."""
    params = rdata.params  # type: ignore[attr-defined]
    mandatory = params.get(_MANDATORY)
    if mandatory is not None and any(key in _HINTS for key in mandatory.keys):
        return None
    if not any(key in _HINTS for key in params):
        return rdata
    return rdata.replace(params={key: value for key, value in params.items() if key not in _HINTS})


def _rendered(
    question: Question,
    asked: dns.name.Name,
    chain: list[dns.name.Name],
    kept: list[dns.rrset.RRset],
    left_out: dict[str, str],
    message: dns.message.Message,
) -> Answer:
    is_answered = any(one.rdtype == question.kind for one in kept)
    times, written, offsets = list[int](), io.BytesIO(bytes(HEADER.size)), dict[dns.name.Name, int]()
    written.seek(HEADER.size)
    asked.to_wire(written, offsets)
    written.seek(HEADER.size + len(question.section))
    answers = authorities = 0
    for one in kept:
        if one.rdtype == RRSIG and not (question.dnssec_ok or question.kind == RRSIG):
            continue
        one.ttl = _within(one.ttl)
        times.append(one.ttl)
        answers += one.to_wire(written, offsets, want_shuffle=False)
    if not is_answered and not left_out:
        authority = [one for one in message.authority if question.dnssec_ok or one.rdtype == SOA]
        times.append(_negative_ttl(authority))
        for one in authority:
            one.ttl = times[-1]
            authorities += one.to_wire(written, offsets, want_shuffle=False)
    body = written.getvalue()[HEADER.size + len(question.section) :]
    if len(body) > MOST_BODY_BYTES:
        raise Unusable
    rcode = int(message.rcode())
    return Answer(
        rcode=NOERROR if left_out else rcode,
        ttl_s=float(min(times, default=SHORTEST_S)),
        body=body,
        counts=(answers, authorities),
        times=tuple(_times(body, HEADER.size + len(question.section))),
        addresses=tuple(sorted(str(rdata.address) for one in kept if one.rdtype in (A, AAAA) for rdata in one)),
        left_out=tuple(sorted(left_out.items())),
        why=(BLOCKED,) if left_out and not is_answered else (),
    )


def _negative_ttl(authority: Iterable[dns.rrset.RRset]) -> int:
    """RFC 2308 §5; without an SOA record what is not there is hardly remembered."""
    soa = next((one for one in authority if one.rdtype == SOA), None)
    return _within(min(soa.ttl, soa[0].minimum)) if soa is not None else SHORTEST_S


def _within(ttl: int) -> int:
    return min(max(ttl, SHORTEST_S), LONGEST_S)


def _times(body: bytes, before: int) -> Iterator[tuple[int, int]]:
    """Where the records of a body have their TTLs, and these. before: bytes in front of the body."""
    position = 0
    while position < len(body):
        while (size := body[position]) and size < 0xC0:
            position += 1 + size
        position += 2 if size else 1
        ttl, length = struct.unpack_from(">IH", body, position + 4)
        yield position + 4, ttl
        position += 10 + length


def sent(question: Question, answer: Answer, age_s: float, limit: int) -> bytes:
    """The packet for who asked the question. limit: its largest size; what does not fit is cut off, TCP brings it.

    age_s: how long ago the answer came; times in it are as much less, and never 0 (RFC 2181 §8 leaves 0 to those who
    must not be remembered).
    """
    options = b"".join(map(explained, answer.why)) if question.edns else b""
    opt = opt_record(answer.rcode, dnssec_ok=question.dnssec_ok, options=options) if question.edns else b""
    body, (answers, authorities), cut = answer.body, answer.counts, 0
    if HEADER.size + len(question.section) + len(body) + len(opt) > limit:
        body, answers, authorities, cut = b"", 0, 0, TC
    elif body and age_s >= 1:
        aged = bytearray(body)
        for position, ttl in answer.times:
            struct.pack_into(">I", aged, position, max(1, ttl - int(age_s)))
        body = bytes(aged)
    flags = QR | RA | cut | question.flags & (RD | CD) | answer.rcode & 0xF
    asked = 1 if question.section else 0
    return b"".join(
        (
            HEADER.pack(question.id, flags, asked, answers, authorities, 1 if opt else 0),
            question.section,
            body,
            opt,
        )
    )
