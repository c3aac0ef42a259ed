"""DNS messages in and out: what is a question, what is an answer to it, and what our own answers look like."""

from itertools import pairwise

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.dns import messages
from services.agent.core.dns.messages import Question
from shared.events.documents import DnsRecord


def asked(name: str = "db.corp.test.", kind: str = "A", *, edns: bool = False, payload: int = 1232) -> Question:
    query = dns.message.make_query(name, kind, use_edns=0 if edns else False, payload=payload)
    found = messages.question(query.to_wire())
    assert isinstance(found, Question)
    return found


def response(question: Question, *lines: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> dns.message.Message:
    """lines: "name TTL IN type content"."""
    reply = dns.message.make_response(question.message)
    reply.set_rcode(rcode)
    for line in lines:
        name, ttl, _, kind, content = line.split(maxsplit=4)
        reply.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, content))
    return dns.message.from_wire(reply.to_wire())


def read(reply: dns.message.Message, limit: int = 65535) -> dns.message.Message:
    return dns.message.from_wire(messages.wire(reply, limit))


def test_a_question_has_its_name_in_lower_case_and_the_size_that_its_sender_takes() -> None:
    plain, large, larger = asked("DB.Corp.test."), asked(edns=True, payload=900), asked(edns=True, payload=65000)
    assert plain.name == ("db", "corp", "test")
    assert (plain.kind, plain.family, asked(kind="AAAA").family, asked(kind="TXT").family) == ("A", 4, 6, None)
    assert (plain.limit, large.limit, larger.limit) == (512, 900, 1232)


ID = 4711
"""Fixed, so that every worker names the tests alike."""


def _changed(**fields: int) -> bytes:
    wire = bytearray(dns.message.make_query("a.test.", "A", id=ID).to_wire())
    for field, value in fields.items():
        wire[{"flags": 2, "questions": 5}[field]] = value
    return bytes(wire)


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (b"", None),
        (b"\x00" * 11, None),
        (_changed(flags=0x81), None),
        (_changed(flags=0x29), dns.rcode.NOTIMP),
        (_changed(questions=2), dns.rcode.FORMERR),
        (_changed(questions=0), dns.rcode.FORMERR),
        (b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6 + b"\xc0\x0c\x00\x01\x00\x01", dns.rcode.FORMERR),
        (dns.message.make_query("version.bind.", "TXT", "CH", id=ID).to_wire(), dns.rcode.REFUSED),
        (dns.message.make_query("test.", "AXFR", id=ID).to_wire(), dns.rcode.REFUSED),
    ],
)
def test_what_is_no_question_for_us_gets_a_header_or_nothing(wire: bytes, rcode: dns.rcode.Rcode | None) -> None:
    found = messages.question(wire)
    if rcode is None:
        assert found is None
        return
    assert isinstance(found, bytes)
    answer = dns.message.from_wire(found)
    assert (answer.rcode(), answer.id, bool(answer.flags & dns.flags.QR)) == (rcode, int.from_bytes(wire[:2]), True)


@given(st.binary(max_size=80))
def test_no_bytes_are_more_than_a_question_a_header_or_nothing(wire: bytes) -> None:
    found = messages.question(wire)
    assert found is None or isinstance(found, Question) or len(found) == messages.HEADER_BYTES


def test_who_is_asked_gets_the_name_as_it_was_written_and_an_id_of_ours() -> None:
    question = asked("DB.corp.TEST.", edns=True)
    sent = messages.passed_on(question, question.name, 4711)
    assert (sent.id, sent.question[0].name.to_text(), sent.edns, sent.payload) == (4711, "DB.corp.TEST.", 0, 1232)
    assert bool(sent.flags & dns.flags.RD)
    assert messages.passed_on(question, ("x", "test"), 1).question[0].name.to_text() == "x.test."


def test_only_the_answer_to_what_was_sent_is_one() -> None:
    question = asked()
    sent = messages.passed_on(question, question.name, 4711)
    good = dns.message.make_response(sent)
    assert messages.answer_to(sent, good.to_wire()) is not None
    good.id = 4712
    assert messages.answer_to(sent, good.to_wire()) is None
    other = dns.message.make_response(dns.message.make_query("else.test.", "A", id=4711))
    assert messages.answer_to(sent, other.to_wire()) is None
    assert messages.answer_to(sent, sent.to_wire()) is None
    assert messages.answer_to(sent, b"\x12\x67" + b"\xff" * 20) is None


def test_an_error_may_come_without_the_question() -> None:
    question = asked()
    sent = messages.passed_on(question, question.name, 4711)
    bare = dns.message.Message(id=4711)
    bare.flags = dns.flags.QR
    assert messages.answer_to(sent, bare.to_wire()) is None
    bare.set_rcode(dns.rcode.SERVFAIL)
    assert messages.answer_to(sent, bare.to_wire()) is not None


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["db.corp.test. 60 IN A 10.1.0.1"], ["10.1.0.1"]),
        (["db.corp.test. 60 IN CNAME x.test.", "x.test. 60 IN A 10.1.0.2"], ["10.1.0.2"]),
        (["else.test. 60 IN A 10.1.0.3"], []),
        (["db.corp.test. 60 IN CNAME x.test."], []),
    ],
)
def test_addresses_are_those_at_the_end_of_the_chain(lines: list[str], found: list[str]) -> None:
    assert list(map(str, messages.addresses(response(asked(), *lines)))) == found


def test_ipv4_written_as_ipv6_is_ipv4() -> None:
    reply = response(asked(kind="AAAA"), "db.corp.test. 60 IN AAAA ::ffff:10.1.0.1")
    assert list(map(str, messages.addresses(reply))) == ["10.1.0.1"]


def test_sixty_four_cnames_are_no_answer() -> None:
    names = ["db.corp.test.", *(f"n{number}.test." for number in range(64))]
    lines = [f"{name} 60 IN CNAME {target}" for name, target in pairwise(names)]
    with pytest.raises(dns.message.ChainTooLong):
        messages.addresses(response(asked(), *lines))


@pytest.mark.parametrize(("ttl_s", "told_s"), [(0, 5), (5, 5), (60, 60), (86400, 300)])
def test_d5_ttls_of_routed_names_are_bounded(ttl_s: int, told_s: int) -> None:
    question = asked()
    reply = messages.replied(question, response(question, f"db.corp.test. {ttl_s} IN A 10.1.0.1"), bounded=True)
    assert [rrset.ttl for rrset in read(reply).answer] == [told_s]


def test_an_answer_has_the_id_and_the_spelling_of_the_question_and_edns_only_if_it_had() -> None:
    for edns in (False, True):
        question = asked("Db.Corp.TEST.", edns=edns)
        theirs = response(question, "db.corp.test. 60 IN A 10.1.0.1")
        theirs.use_edns(0, 0, 1232)
        found = read(messages.replied(question, theirs))
        assert found.id == question.message.id
        assert found.question[0].name.to_text() == "Db.Corp.TEST."
        assert (found.edns >= 0) == edns
        assert found.flags & dns.flags.RA


def test_a_name_of_ours_leads_on_to_the_answer_of_others() -> None:
    question = asked("www.z.test.")
    chain = [DnsRecord("www.z.test", "CNAME", "db.corp.test", 60)]
    reply = messages.replied(question, response(asked(), "db.corp.test. 60 IN A 10.1.0.1"), chain)
    assert [rrset.to_text() for rrset in read(reply).answer] == [
        "www.z.test. 60 IN CNAME db.corp.test.",
        "db.corp.test. 60 IN A 10.1.0.1",
    ]


def test_an_answer_without_its_addresses_keeps_the_rest() -> None:
    question = asked(kind="AAAA")
    theirs = response(question, "db.corp.test. 60 IN CNAME x.test.", "x.test. 60 IN AAAA fd00::1")
    found = read(messages.replied(question, theirs, without_addresses=True))
    assert [rrset.rdtype for rrset in found.answer] == [dns.rdatatype.CNAME]
    assert found.rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(("exists", "rcode"), [(True, dns.rcode.NOERROR), (False, dns.rcode.NXDOMAIN)])
def test_where_we_have_nothing_we_say_so_for_a_minute(exists: bool, rcode: dns.rcode.Rcode) -> None:
    found = read(messages.own(asked(), (), exists=exists, zone="corp.test"))
    assert (found.rcode(), found.answer) == (rcode, [])
    assert [(one.name.to_text(), one.rdtype, one.ttl) for one in found.authority] == [
        ("corp.test.", dns.rdatatype.SOA, 60)
    ]


def test_records_of_one_name_are_one_set() -> None:
    records = [DnsRecord("db.corp.test", "A", f"10.1.0.{last}", 60) for last in (1, 2)]
    found = read(messages.own(asked(), records, exists=True, zone="corp.test"))
    assert [len(rrset) for rrset in found.answer] == [2]
    assert found.authority == []
    assert found.flags & dns.flags.AA


def test_a_failure_is_a_whole_message_and_says_why_where_edns_is_spoken() -> None:
    for edns in (False, True):
        question = asked(edns=edns)
        found = read(messages.failed(question, messages.NO_REACHABLE, "nobody carries the route"))
        assert (found.id, found.rcode()) == (question.message.id, dns.rcode.SERVFAIL)
        assert found.question == question.message.question
        assert list(messages.extended_errors(found)) == ([22] if edns else [])


def test_what_is_too_long_is_cut_off_and_says_so() -> None:
    question = asked()
    lines = [f"db.corp.test. 60 IN A 10.1.{number}.1" for number in range(100)]
    reply = messages.replied(question, response(question, *lines))
    cut = messages.wire(reply, question.limit)
    assert len(cut) <= 512
    assert messages.is_cut(cut)
    assert len(read(reply).answer[0]) == len(lines)


def test_a_text_of_many_kilobytes_fits_by_tcp() -> None:
    question = asked(kind="TXT")
    text = " ".join(f'"{"x" * 250}"' for _ in range(100))
    reply = messages.replied(question, response(question, f"db.corp.test. 60 IN TXT {text}"))
    assert len(messages.wire(reply, 65535)) > 25_000
    assert messages.is_cut(messages.wire(reply, question.limit))
