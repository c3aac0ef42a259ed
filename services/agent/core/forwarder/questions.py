"""Questions as they come over the wire (RFC 1035 §4.1, RFC 6891), read by hand: what is no question costs little."""

import struct
from typing import Final

import msgspec

from services.agent.core.forwarder.names import Labels

HEADER = struct.Struct(">6H")
_TYPE_AND_CLASS = struct.Struct(">2H")
_RECORD = struct.Struct(">HHIH")
_OPTION = struct.Struct(">2H")

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
OPCODE: Final = 0x7800
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
IN, OPT, ANY = 1, 41, 255
A, CNAME, SOA, AAAA, RRSIG, SVCB, HTTPS = 1, 5, 6, 28, 46, 64, 65
TRANSFERS: Final = frozenset({251, 252})
DO = 0x8000

PLAIN_BYTES = 512
"""The largest answer over UDP to who says nothing of larger ones (RFC 1035 §4.2.1)."""
LARGEST_BYTES = 1232
"""The largest over UDP to anybody: with its headers it fits into the tunnel, whose packets have 1,280 bytes (IPv6: 40
of IP, 8 of UDP). So an answer is never fragmented, and what a question brings about stays in proportion."""
MAX_NAME_BYTES = 255

PASSED_OPTION = 65_413
"""EDNS option, of those for local use (RFC 6891 §9): marks of the forwarders that a question went through."""
MARK_BYTES = 8
MOST_PASSED = 4
"""Nobody asks through more forwarders; whatever has been through so many goes round."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """One question. section: the question section as it was asked, for the answer repeats it to the letter. name: in
    lower case. limit: bytes of the largest answer that may go back over UDP. passed: marks of forwarders.

    rcode: what is wrong with it otherwise, NOERROR where it is to be answered.
    """

    id: int
    section: bytes
    name: Labels
    kind: int
    klass: int
    flags: int
    edns: bool = False
    dnssec_ok: bool = False
    limit: int = PLAIN_BYTES
    passed: tuple[bytes, ...] = ()
    rcode: int = NOERROR


def read(packet: bytes) -> Question | None:
    """None for what gets no answer: an answer, or less than a header."""
    if len(packet) < HEADER.size:
        return None
    id, flags, questions, answers, authorities, others = HEADER.unpack_from(packet)
    if flags & QR:
        return None
    if flags & OPCODE:
        return _faulty(id, flags, NOTIMP)
    if questions != 1 or answers or authorities:
        return _faulty(id, flags, FORMERR)
    try:
        name, end = _name(packet)
        kind, klass = _TYPE_AND_CLASS.unpack_from(packet, end)
        end += _TYPE_AND_CLASS.size
        question = Question(id, packet[HEADER.size : end], name, kind, klass, flags)
        return _with_options(question, packet, end, others) if others else question
    except (IndexError, struct.error):
        return _faulty(id, flags, FORMERR)


def _faulty(id: int, flags: int, rcode: int) -> Question:
    return Question(id, b"", (), 0, 0, flags, rcode=rcode)


def _name(packet: bytes) -> tuple[Labels, int]:
    """The name behind the header, and where it ends. Nothing stands before it that could be pointed to."""
    position, found = HEADER.size, []
    while size := packet[position]:
        end = position + 1 + size
        if size > 63 or end - HEADER.size >= MAX_NAME_BYTES or end >= len(packet):
            raise IndexError
        found.append(packet[position + 1 : end].lower())
        position = end
    return tuple(found), position + 1


def _with_options(question: Question, packet: bytes, position: int, records: int) -> Question:
    """The question with what its OPT record says. Other records are skipped; a second OPT makes no sense."""
    found = question
    for _ in range(records):
        if packet[position]:  # whatever signs or pads questions, we know of nothing that does not belong to the root
            return _faulty(question.id, question.flags, FORMERR)
        kind, size, extended, length = _RECORD.unpack_from(packet, position + 1)
        begin = position + 1 + _RECORD.size
        position = begin + length
        if position > len(packet) or (kind == OPT and found.edns):
            return _faulty(question.id, question.flags, FORMERR)
        if kind == OPT:
            found = msgspec.structs.replace(
                found,
                edns=True,
                dnssec_ok=bool(extended & DO),
                limit=min(max(size, PLAIN_BYTES), LARGEST_BYTES),
                passed=_passed(packet[begin:position]),
                rcode=BADVERS if extended >> 16 & 0xFF else NOERROR,
            )
    return found


def _passed(options: bytes) -> tuple[bytes, ...]:
    position = 0
    while position < len(options):
        code, length = _OPTION.unpack_from(options, position)
        position += _OPTION.size
        if position + length > len(options):
            raise IndexError
        if code == PASSED_OPTION:
            marks = options[position : position + length]
            return tuple(marks[at : at + MARK_BYTES] for at in range(0, len(marks), MARK_BYTES))
        position += length
    return ()


def asked_upstream(question: Question, passed: tuple[bytes, ...] = ()) -> bytes:
    """The question as it is put to a nameserver, with id 0. passed: who shall be named as having passed it on."""
    marks = b"".join(passed)
    options = _OPTION.pack(PASSED_OPTION, len(marks)) + marks if marks else b""
    return b"".join(
        (
            HEADER.pack(0, RD | question.flags & CD, 1, 0, 0, 1),
            lower_section(question),
            opt_record(NOERROR, dnssec_ok=question.dnssec_ok, options=options),
        )
    )


def lower_section(question: Question) -> bytes:
    """The question section with its name in lower case. Lengths of labels are below letters, types and classes are not:
    65 is HTTPS and "A"."""
    return question.section[:-4].lower() + question.section[-4:]


def opt_record(rcode: int, *, dnssec_ok: bool, options: bytes = b"") -> bytes:
    extended = rcode >> 4 << 24 | (DO if dnssec_ok else 0)
    return b"\0" + _RECORD.pack(OPT, LARGEST_BYTES, extended, len(options)) + options


def explained(code: int) -> bytes:
    """The option that says why (RFC 8914), without a text: nothing of upstreams is told."""
    return _OPTION.pack(15, 2) + code.to_bytes(2)
