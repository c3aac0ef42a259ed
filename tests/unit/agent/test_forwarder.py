"""The forwarder on a routing peer: who is answered, what, and what has to be true before (decisions D1 to D5)."""

import gc
import itertools
import struct
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.forwarder.answers import answers_it
from services.agent.core.forwarder.forwarder import (
    MOST_HOT_BYTES,
    MOST_LOOKUPS,
    MOST_OF_ONE,
    MOST_WAITING,
    REFUSAL,
    Forwarder,
)
from services.agent.core.forwarder.names import Names, labels
from services.agent.core.forwarder.questions import LARGEST_BYTES, PASSED_OPTION, read
from services.agent.core.forwarder.terms import NOTHING, terms
from tests.support.forwarding import ALICE, BOB, MARK, STRANGER, TERMS, Play, query, reply
from tests.unit.agent import make

PASSED = dns.edns.OptionType.make(PASSED_OPTION)
LOCAL = dns.edns.OptionType.make(65_100)
DB, DEEP = "db.corp.example", "a.b.corp.example"


@pytest.fixture
def play() -> Play:
    made = Play()
    made.zone[DB, "A"] = [f"{DB}. 60 IN A 10.9.0.1", f"{DB}. 60 IN A 10.9.0.2"]
    made.zone["www.example", "A"] = ["www.example. 60 IN A 192.0.2.80"]
    return made


def said(message: dns.message.Message | None) -> list[str]:
    """The answer section, a line for each record."""
    assert message is not None
    return [line for one in message.answer for line in sorted(one.to_text().split("\n"))]


def why(message: dns.message.Message | None) -> list[int]:
    """Extended errors."""
    assert message is not None
    return [int(one.code) for one in message.options if isinstance(one, dns.edns.EDEOption)]


def code(message: dns.message.Message | None) -> str:
    assert message is not None
    return dns.rcode.to_text(message.rcode())


# Which names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("db.corp.example", ("exact", "wide", "wider")),
        ("x.corp.example", ("wide", "wider")),
        ("x.y.corp.example", ("wide", "wider")),
        ("corp.example", ("wider",)),
        ("example", ()),
        ("x.db.corp.example", ("wide", "wider")),
        ("xcorp.example", ("wider",)),
        ("db.corp.test", ()),
        ("", ()),
    ],
)
def test_r7_a_wildcard_is_whatever_lies_below_it_and_not_itself_and_the_longest_match_comes_first(
    name: str, expected: tuple[str, ...]
) -> None:
    names = Names({"wider": ["*.example"], "wide": ["*.corp.example"], "exact": ["db.corp.example"]})
    assert names.routes(labels(name) if name else ()) == expected


def test_two_routes_of_one_name_are_both_found() -> None:
    assert Names({"b": ["x.example"], "a": ["x.example", "*.example"]}).routes(labels("X.example.")) == ("a", "b")


# Who may ask


def documents(**settings: object) -> Documents:
    peers = [make.peer("alice", "office", number=7), make.peer("bob", "guests", number=8, v6="")]
    routes = [
        make.served("lan", by="me", domains=("DB.corp.example",), distribution=("office",)),
        make.served("web", by="me", domains=("www.example",), distribution=("office", "guests")),
        make.served("net", by="me", distribution=("office",)),
        make.route("other", by="gw", domains=("other.example",)),
    ]
    return make.documents(make.me(), peers, routes=routes, settings_doc=make.settings(**settings))


def test_d3_who_may_ask_for_what_is_whom_the_routes_are_distributed_to() -> None:
    found = terms(documents(), ("lan", "web", "net"), own=["192.168.7.1"], listen=["100.64.0.1"])
    assert found.domains == {"lan": ("db.corp.example",), "web": ("www.example",)}
    may = {address: found.audiences[number] for address, number in found.askers.items()}
    assert may == {"100.64.0.7": ("lan", "web"), "fd00:64::7": ("lan", "web"), "100.64.0.8": ("web",)}
    assert (found.overlay, found.own, found.listen) == (
        ("100.64.0.0/16", "fd00:64::/64"),
        ("192.168.7.1",),
        ("100.64.0.1",),
    )


@pytest.mark.parametrize(
    ("settings", "served"), [({"routing_peer_dns_resolution": False}, ("lan",)), ({}, ("net",)), ({}, ())]
)
def test_without_a_name_to_serve_or_with_clients_that_resolve_themselves_nobody_is_answered(
    settings: dict[str, object], served: tuple[str, ...]
) -> None:
    assert terms(documents(**settings), served, own=(), listen=()) == NOTHING


@pytest.mark.parametrize(
    ("name", "kind", "source"),
    [
        (DB, "A", BOB),
        (DB, "A", STRANGER),
        ("elsewhere.example", "A", ALICE),
        ("corp.example", "A", ALICE),
        (".", "NS", ALICE),
        (DB, "AXFR", ALICE),
    ],
)
def test_d3_others_names_and_others_questions_are_refused_and_nobody_is_asked(
    play: Play, name: str, kind: str, source: str
) -> None:
    refused = play.ask(name, kind, source)
    assert code(refused) == "REFUSED"
    assert said(refused) == []
    assert play.asked == []
    play.ask(DB)
    assert code(play.ask(name, kind, source)) == "REFUSED", "also when the answer is known"


def test_another_class_is_refused(play: Play) -> None:
    packet = bytearray(query(DB))
    packet[12 + len(DB) + 2 + 3] = 3  # CH
    answer = play.send(bytes(packet))
    assert answer is not None
    assert answer[3] & 0xF == 5


# Answers


def test_an_answer_has_upstreams_records_and_the_questions_spelling(play: Play) -> None:
    answer = play.ask("dB.CoRp.exAMPle")
    assert said(answer) == ["dB.CoRp.exAMPle. 60 IN A 10.9.0.1", "dB.CoRp.exAMPle. 60 IN A 10.9.0.2"]
    assert answer is not None
    assert answer.flags & dns.flags.RA
    assert not answer.flags & (dns.flags.AA | dns.flags.TC | dns.flags.AD)
    assert answer.question[0].name.to_text() == "dB.CoRp.exAMPle."
    again = play.ask("DB.corp.example")
    assert said(again)[0] == "DB.corp.example. 60 IN A 10.9.0.1"
    assert play.asked == [DB]


def test_each_answer_has_the_id_of_its_question_whether_found_by_bytes_or_not(play: Play) -> None:
    for id in (1, 2, 65535):
        answer = play.ask(DB, id=id)
        assert answer is not None
        assert answer.id == id
    assert play.forwarder.counts["hot"] == 1  # the first one is asked for, the second kept by its bytes


RECORDS = {
    "MX": "10 mx.corp.example.",
    "TXT": f'"{"x" * 255}" "{"y" * 100}"',
    "NS": "ns.corp.example.",
    "SRV": "1 2 5432 pg.corp.example.",
    "PTR": "db.corp.example.",
    "CAA": '0 issue "ca.example"',
    "TLSA": "3 1 1 " + "ab" * 32,
    "NAPTR": '1 1 "s" "x" "" r.corp.example.',
    "TYPE65280": "\\# 3 010203",
}


@pytest.mark.parametrize("kind", RECORDS)
def test_every_type_of_record_of_a_routed_name_is_passed_on(play: Play, kind: str) -> None:
    play.zone[DEEP, kind] = [f"{DEEP}. 60 IN {kind} {RECORDS[kind]}"]
    assert said(play.ask(DEEP, kind)) == [f"{DEEP}. 60 IN {kind} {RECORDS[kind]}"]
    assert play.filled == []


def test_d5_a_chain_of_aliases_stays_whole_and_what_does_not_belong_to_it_is_left_out(play: Play) -> None:
    chain = [
        f"{DEEP}. 60 IN CNAME www.cdn.test.",
        "www.cdn.test. 30 IN CNAME edge.cdn.test.",
        "edge.cdn.test. 60 IN A 203.0.113.5",
    ]
    play.zone[DEEP, "A"] = [*chain, "poison.test. 60 IN A 203.0.113.66"]
    assert said(play.ask(DEEP)) == chain
    assert play.filled[0].addresses == ("203.0.113.5",)
    play.passes(29)
    play.ask(DEEP)
    assert len(play.asked) == 1
    play.passes(2)
    play.ask(DEEP)
    assert len(play.asked) == 2, "it is as old as its shortest-lived link"


@pytest.mark.parametrize("links", [17, 64])
def test_too_long_a_chain_is_no_answer(play: Play, links: int) -> None:
    names = [DEEP, *(f"n{number}.test" for number in range(links))]
    play.zone[DEEP, "A"] = [
        *(f"{one}. 60 IN CNAME {other}." for one, other in itertools.pairwise(names)),
        f"{names[-1]}. 60 IN A 203.0.113.5",
    ]
    answer = play.ask(DEEP)
    assert (code(answer), why(answer)) == ("SERVFAIL", [0])


def test_a_chain_that_bites_its_tail_is_no_answer(play: Play) -> None:
    play.zone[DEEP, "A"] = [f"{DEEP}. 60 IN CNAME b.test.", f"b.test. 60 IN CNAME {DEEP}."]
    assert code(play.ask(DEEP)) == "SERVFAIL"


@pytest.mark.parametrize(("held", "expected"), [([], "NOERROR"), ("NXDOMAIN", "NXDOMAIN")])
def test_rfc2308_what_is_not_there_is_told_apart_with_its_soa_and_remembered_as_long_as_that_says(
    play: Play, held: list[str] | str, expected: str
) -> None:
    play.zone[DEEP, "AAAA"] = held
    answer = play.ask(DEEP, "AAAA")
    assert (code(answer), said(answer)) == (expected, [])
    assert answer is not None
    assert [one.ttl for one in answer.authority] == [60]
    play.passes(59)
    again = play.ask(DEEP, "AAAA")
    assert again is not None
    assert [one.ttl for one in again.authority] == [1]
    play.passes(2)
    play.ask(DEEP, "AAAA")
    assert len(play.asked) == 2


@pytest.mark.parametrize(("ttl", "expected"), [(0, 5), (1, 5), (5, 5), (299, 299), (86_400, 300), (2**31 - 1, 300)])
def test_d5_times_are_upstreams_within_5_and_300_seconds(play: Play, ttl: int, expected: int) -> None:
    play.zone[DEEP, "A"] = [f"{DEEP}. {ttl} IN A 10.9.0.7"]
    assert said(play.ask(DEEP)) == [f"{DEEP}. {expected} IN A 10.9.0.7"]
    play.passes(expected - 1)
    assert said(play.ask(DEEP)) == [f"{DEEP}. 1 IN A 10.9.0.7"]
    assert len(play.asked) == 1
    play.passes(1.01)
    play.ask(DEEP)
    assert len(play.asked) == 2


def test_times_go_down_also_in_answers_that_are_found_by_bytes(play: Play) -> None:
    packet = query(DB)
    seen = []
    for _ in range(4):
        answer = play.send(packet)
        assert answer is not None
        seen.append(dns.message.from_wire(answer).answer[0].ttl)
        play.passes(0.7)
    assert seen == [60, 60, 59, 58]


def test_any_is_answered_without_anybody_being_asked(play: Play) -> None:
    assert said(play.ask(DB, "ANY")) == [f'{DB}. 300 IN HINFO "RFC8482" ""']
    assert play.asked == []


def test_services_come_without_addresses_which_are_asked_for_instead(play: Play) -> None:
    play.zone[DEEP, "HTTPS"] = [f"{DEEP}. 60 IN HTTPS 1 . alpn=h2 ipv4hint=10.9.0.1 ipv6hint=fd00:9::1"]
    assert said(play.ask(DEEP, "HTTPS")) == [f'{DEEP}. 60 IN HTTPS 1 . alpn="h2"']
    play.zone[DEEP, "SVCB"] = [f"{DEEP}. 60 IN SVCB 1 . mandatory=ipv4hint ipv4hint=10.9.0.1"]
    assert said(play.ask(DEEP, "SVCB")) == []


# Addresses that may never be routed


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("A", "127.0.0.1"),
        ("A", "169.254.169.254"),
        ("A", "224.0.0.1"),
        ("A", "0.0.0.0"),
        ("A", "100.64.3.4"),
        ("A", "192.168.77.1"),
        ("AAAA", "::1"),
        ("AAAA", "fe80::1"),
        ("AAAA", "fd00:64::9"),
        ("AAAA", "::ffff:10.9.0.1"),
    ],
)
def test_addresses_that_may_never_be_routed_are_left_out_and_shown(play: Play, kind: str, address: str) -> None:
    play.zone[DEEP, kind] = [f"{DEEP}. 60 IN {kind} {address}"]
    answer = play.ask(DEEP, kind)
    assert (code(answer), said(answer), why(answer)) == ("NOERROR", [], [15])
    assert play.filled == []
    assert play.forwarder.left_out.keys() == {DEEP}
    good = "10.9.0.9" if kind == "A" else "fd00:9::9"
    play.zone[DEEP, kind] = [f"{DEEP}. 60 IN {kind} {address}", f"{DEEP}. 60 IN {kind} {good}"]
    play.passes(6)
    mixed = play.ask(DEEP, kind)
    assert (said(mixed), why(mixed)) == ([f"{DEEP}. 60 IN {kind} {good}"], [])
    assert [one.addresses for one in play.filled] == [(good,)]


def test_no_more_names_are_shown_than_anybody_reads(play: Play) -> None:
    for number in range(100):
        name = f"n{number}.corp.example"
        play.zone[name, "A"] = [f"{name}. 60 IN A 127.0.0.1"]
        play.ask(name)
    assert len(play.forwarder.left_out) == 32


# The firewall comes first


def test_d4_nobody_hears_of_an_address_before_it_is_permitted_for_every_route_of_the_name(play: Play) -> None:
    play.holds_fills = True
    assert play.ask(DB) is None
    (fill,) = play.open_fills
    assert (fill.routes, fill.name, fill.addresses) == (("lan",), DB, ("10.9.0.1", "10.9.0.2"))
    assert fill.for_s == 60 + 600
    assert play.ask(DB) is None, "who asks meanwhile waits as well"
    assert play.open_fills == [fill]
    play.fill(fill)
    assert len(play.sent) == 2
    play.holds_fills = False
    play.ask(DB)
    assert len(play.filled) == 1, "what is permitted for longer than it is known need not be permitted again"


def test_d4_what_the_firewall_does_not_take_is_not_told_and_is_tried_again(play: Play) -> None:
    play.fills_fail = "no such set"
    answer = play.ask(DB)
    assert (code(answer), said(answer)) == ("SERVFAIL", [])
    play.fills_fail = ""
    assert len(said(play.ask(DB))) == 2
    assert len(play.asked) == 1


def test_a6_a_route_that_comes_has_the_addresses_before_its_clients_hear_of_them(play: Play) -> None:
    play.ask(DB)
    more = replace(
        TERMS, domains={**TERMS.domains, "new": (DB,)}, audiences=(("lan", "web"), ("mail", "new")), own=TERMS.own
    )
    play.forwarder.follow(more)
    assert len(said(play.ask(DB, source=BOB))) == 2
    assert [one.routes for one in play.filled] == [("lan",), ("lan", "new")]
    play.forwarder.follow(TERMS)
    assert code(play.ask(DB, source=BOB)) == "REFUSED"
    play.forwarder.follow(more)
    play.ask(DB, source=BOB)
    assert len(play.filled) == 3, "its set was withdrawn, and is empty when it comes back"
    assert len(play.asked) == 1


def test_a_route_that_goes_while_its_name_is_asked_for_leaves_no_answer(play: Play) -> None:
    play.zone[DB, "A"] = "silence"
    assert play.ask(DB) is None
    play.forwarder.follow(replace(TERMS, domains={"web": ("www.example",)}, audiences=(("web",), ())))
    (ask,) = play.open_asks
    play.answer(ask, reply(ask.packet, f"{DB}. 60 IN A 10.9.0.1"))
    assert code(dns.message.from_wire(play.sent[1])) == "REFUSED"
    assert play.filled == []


# When nameservers fail


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"])
def test_a_failure_is_told_well_formed_and_remembered_for_five_seconds(play: Play, rcode: str) -> None:
    play.zone[DB, "A"] = rcode
    answer = play.ask(DB)
    assert (code(answer), why(answer)) == ("SERVFAIL", [0])
    assert answer is not None
    assert answer.question[0].name.to_text() == f"{DB}."
    play.passes(4.9)
    play.ask(DB)
    assert len(play.asked) == 1
    play.passes(0.2)
    play.ask(DB)
    assert len(play.asked) == 2
    plain = play.ask(DB, edns=False)
    assert plain is not None
    assert (plain.edns, code(plain)) == (-1, "SERVFAIL")


def test_rfc8767_a_known_answer_stands_in_for_a_day_and_nameservers_are_asked_every_30_seconds(play: Play) -> None:
    play.ask(DB)
    play.zone[DB, "A"] = "SERVFAIL"
    play.passes(61)
    for _ in range(3):
        answer = play.ask(DB)
        assert said(answer) == [f"{DB}. 30 IN A 10.9.0.1", f"{DB}. 30 IN A 10.9.0.2"]
        assert why(answer) == [3]
    assert len(play.asked) == 2
    assert len(play.filled) == 1, "they are permitted for longer than that"
    play.passes(31)
    play.ask(DB)
    assert len(play.asked) == 3
    play.passes(600)
    play.ask(DB)
    assert len(play.filled) == 2, "the permit is extended with what stands in"
    play.zone[DB, "A"] = [f"{DB}. 60 IN A 10.9.0.3"]
    play.passes(31)
    assert said(play.ask(DB)) == [f"{DB}. 60 IN A 10.9.0.3"]
    play.zone[DB, "A"] = "SERVFAIL"
    play.passes(86_400 + 61)
    assert code(play.ask(DB)) == "SERVFAIL"


def test_rfc8767_who_waits_1800_ms_hears_what_was_known_and_the_next_one_the_new_answer(play: Play) -> None:
    play.ask(DB)
    play.zone[DB, "A"] = "silence"
    play.passes(61)
    assert play.ask(DB) is None
    assert play.forwarder.next_at() == play.now + 1.8
    play.passes(1.7)
    assert len(play.sent) == 1
    play.passes(0.2)
    assert why(dns.message.from_wire(play.sent[2])) == [3]
    (ask,) = play.open_asks
    play.answer(ask, reply(ask.packet, f"{DB}. 60 IN A 10.9.0.3"))
    assert said(play.ask(DB)) == [f"{DB}. 60 IN A 10.9.0.3"]
    assert play.forwarder.next_at() is None


def test_what_does_not_exist_stands_in_as_that(play: Play) -> None:
    play.ask(DEEP)
    play.zone[DEEP, "A"] = "SERVFAIL"
    play.passes(61)
    answer = play.ask(DEEP)
    assert (code(answer), why(answer)) == ("NXDOMAIN", [19])


def test_a_question_is_asked_once_however_many_wait_for_it(play: Play) -> None:
    play.zone[DB, "A"] = "silence"
    for _ in range(MOST_WAITING + 10):
        play.ask(DB)
    (ask,) = play.open_asks
    play.answer(ask, reply(ask.packet, f"{DB}. 60 IN A 10.9.0.1"))
    codes = [code(dns.message.from_wire(one)) for one in play.sent.values()]
    assert codes == ["SERVFAIL"] * 10 + ["NOERROR"] * MOST_WAITING, "there is no room for others, and they are told"
    assert play.forwarder.counts["dropped"] == 10


def test_more_look_ups_than_anybody_can_wait_for_fail_at_once(play: Play) -> None:
    clients = [f"100.64.1.{number}" for number in range(MOST_LOOKUPS // MOST_OF_ONE)]
    play.forwarder.follow(replace(TERMS, askers={**TERMS.askers, **dict.fromkeys(clients, 0)}))
    for number in range(MOST_LOOKUPS):
        play.zone[f"n{number}.corp.example", "A"] = "silence"
        play.ask(f"n{number}.corp.example", source=clients[number % len(clients)])
    assert code(play.ask(DB)) == "SERVFAIL"
    assert play.forwarder.sizes["lookups"] == MOST_LOOKUPS


def test_d7_who_asks_for_more_names_than_anybody_needs_leaves_room_for_others(play: Play) -> None:
    for number in range(MOST_OF_ONE + 1):
        play.zone[f"n{number}.corp.example", "A"] = "silence"
        answer = play.ask(f"n{number}.corp.example")
    assert code(answer) == "SERVFAIL"
    assert len(said(play.ask(DB, source="fd00:64::7"))) == 2
    ask = play.open_asks[0]
    play.answer(ask, reply(ask.packet, "n0.corp.example. 60 IN A 10.9.0.5"))
    assert len(said(play.ask(DB))) == 2


# Loops


def test_a_question_that_this_forwarder_has_passed_on_is_not_passed_on_again(play: Play) -> None:
    play.zone[DB, "A"] = "silence"
    play.ask(DB)
    (ask,) = play.open_asks
    asked = dns.message.from_wire(ask.packet)
    passed = [bytes(one.to_wire() or b"") for one in asked.options if one.otype == PASSED]
    assert passed == [MARK]
    came_back = query("other.corp.example", options=[dns.edns.GenericOption(PASSED, MARK)])
    answer = play.send(came_back)
    assert answer is not None
    assert code(dns.message.from_wire(answer)) == "SERVFAIL"
    assert play.forwarder.counts["loops"] == 1
    other = query("other.corp.example", options=[dns.edns.GenericOption(PASSED, b"somebody" * 2)])
    play.zone["other.corp.example", "A"] = "silence"
    assert play.send(other) is None
    assert dns.message.from_wire(play.open_asks[-1].packet).options[0].to_wire() == b"somebody" * 2 + MARK
    round_and_round = query("third.corp.example", options=[dns.edns.GenericOption(PASSED, b"somebody" * 4)])
    refused = play.send(round_and_round)
    assert refused is not None
    assert code(dns.message.from_wire(refused)) == "SERVFAIL"


# The wire


def test_edns_is_answered_in_kind_and_its_bits_go_upstream(play: Play) -> None:
    answer = play.ask(DB, want_dnssec=True)
    assert answer is not None
    assert (answer.edns, answer.payload, bool(answer.ednsflags & dns.flags.DO)) == (0, LARGEST_BYTES, True)
    plain = play.ask(DB, edns=False)
    assert plain is not None
    assert plain.edns == -1
    assert len(play.asked) == 2, "an answer with signatures is another one"
    strange = play.ask(DB, use_edns=1)
    assert strange is not None
    assert code(strange) == "BADVERS"


def many(count: int) -> list[str]:
    return [f"{DEEP}. 60 IN A 10.8.{number >> 8}.{number & 255}" for number in range(count)]


@pytest.mark.parametrize(
    ("count", "options", "cut"),
    [
        (29, {"edns": False}, False),
        (30, {"edns": False}, True),
        (29, {"payload": 100}, False),
        (30, {"payload": 100}, True),
        (70, {"payload": 1232}, False),
        (80, {"payload": 1232}, True),
        (80, {"payload": 65535}, True),
    ],
)
def test_what_does_not_fit_is_cut_off_and_comes_whole_by_tcp(
    play: Play, count: int, options: dict[str, Any], cut: bool
) -> None:
    play.zone[DEEP, "A"] = many(count)
    answer = play.ask(DEEP, **options)
    assert answer is not None
    assert bool(answer.flags & dns.flags.TC) == cut
    assert len(said(answer)) == (0 if cut else count)
    assert len(answer.to_wire()) <= (512 if options.get("edns") is False else max(512, LARGEST_BYTES))
    whole = play.ask(DEEP, tcp=True, **options)
    assert len(said(whole)) == count


def test_an_oversized_text_comes_by_tcp(play: Play) -> None:
    strings = " ".join(f'"{"x" * 255}"' for _ in range(200))
    play.zone[DEEP, "TXT"] = [f"{DEEP}. 60 IN TXT {strings}"]
    assert said(play.ask(DEEP, "TXT")) == []
    assert len(said(play.ask(DEEP, "TXT", tcp=True))[0]) > 50_000


LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 48, "corp.example"])


@pytest.mark.parametrize(
    "name", [LONGEST, r"\000\255 \..corp.example", "xn--bcher-kva.corp.example", "_x._y.corp.example"]
)
def test_odd_names_are_names(play: Play, name: str) -> None:
    packet = query(name)
    assert read(packet) is not None
    play.send(packet)
    assert len(play.asked) == 1


HEADER = struct.Struct(">6H")
QUESTION = b"\x02db\x04corp\x07example\0\0\x01\0\x01"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(b"", None, id="nothing"),
        pytest.param(b"\0" * 11, None, id="less than a header"),
        pytest.param(HEADER.pack(7, 0x8000, 1, 0, 0, 0) + QUESTION, None, id="an answer"),
        pytest.param(HEADER.pack(7, 0x2000, 1, 0, 0, 0) + QUESTION, 4, id="another opcode"),
        pytest.param(HEADER.pack(7, 0, 0, 0, 0, 0), 1, id="no question"),
        pytest.param(HEADER.pack(7, 0, 2, 0, 0, 0) + QUESTION * 2, 1, id="two questions"),
        pytest.param(HEADER.pack(7, 0, 1, 1, 0, 0) + QUESTION, 1, id="a question with an answer"),
        pytest.param(HEADER.pack(7, 0, 1, 0, 0, 0) + QUESTION[:-1], 1, id="cut off"),
        pytest.param(HEADER.pack(7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\x01\0\x01", 1, id="a pointer"),
        pytest.param(HEADER.pack(7, 0, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01", 1, id="257 bytes"),
        pytest.param(HEADER.pack(7, 0, 1, 0, 0, 1) + QUESTION, 1, id="a record that is not there"),
        pytest.param(
            HEADER.pack(7, 0, 1, 0, 0, 2) + QUESTION + b"\0\0\x29\x04\xd0\0\0\0\0\0\0" * 2, 1, id="two OPT records"
        ),
        pytest.param(
            HEADER.pack(7, 0, 1, 0, 0, 1) + QUESTION + b"\0\0\x29\x04\xd0\0\0\0\0\0\x09", 1, id="OPT beyond the end"
        ),
    ],
)
def test_malformed_packets_get_a_short_answer_or_none(play: Play, packet: bytes, expected: int | None) -> None:
    answer = play.send(packet)
    if expected is None:
        assert answer is None
    else:
        assert answer is not None
        assert (answer[:2], answer[3] & 0xF, len(answer) <= len(packet)) == (b"\0\x07", expected, True)
    assert play.asked == []


SPOILS: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda good: good[:30],
    "garbage": lambda good: good[:12] + b"\xff" * 40,
    "no question": lambda good: good[:4] + b"\0\0" + good[6:],
}


@pytest.mark.parametrize("spoil", list(SPOILS))
def test_malformed_answers_are_no_answers(play: Play, spoil: str) -> None:
    play.zone[DB, "A"] = "silence"
    play.ask(DB)
    (ask,) = play.open_asks
    play.answer(ask, SPOILS[spoil](reply(ask.packet, f"{DB}. 60 IN A 10.9.0.1")))
    assert code(dns.message.from_wire(play.sent[1])) == "SERVFAIL"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda good: good, True, id="the answer"),
        pytest.param(lambda good: b"\0\x01" + good[2:], False, id="another id"),
        pytest.param(lambda good: good[:2] + b"\x01" + good[3:], False, id="a question"),
        pytest.param(lambda good: good.replace(b"\x02db", b"\x02dc"), False, id="another question"),
        pytest.param(lambda good: good.replace(b"\x02db", b"\x02DB"), True, id="another spelling"),
        pytest.param(lambda good: good[:12], True, id="an error without a question"),
    ],
)
def test_only_what_answers_the_question_is_looked_at(
    play: Play, change: Callable[[bytes], bytes], expected: bool
) -> None:
    play.zone[DB, "A"] = "silence"
    play.ask(DB)
    (ask,) = play.open_asks
    assert answers_it(ask.question, 0, change(reply(ask.packet))) is expected


@given(st.lists(st.binary(max_size=80), max_size=20), st.data())
def test_no_packet_ends_the_forwarder_or_gets_more_than_a_question_deserves(
    noise: Iterable[bytes], data: st.DataObject
) -> None:
    play = Play()
    play.zone[DB, "A"] = [f"{DB}. 60 IN A 10.9.0.{number}" for number in range(250)]
    whole = query(DB)
    for one in noise:
        at = data.draw(st.integers(0, len(whole)))
        for packet in (one, whole[:at] + one, whole[:at] + one + whole[at + len(one) :]):
            answer = play.send(packet)
            assert answer is None or len(answer) <= LARGEST_BYTES


# Who asks on behalf of the resolver


def test_a_served_name_can_be_resolved_without_a_client_and_is_permitted_then(play: Play) -> None:
    play.forwarder.resolve(DB, 1, "r", play.now)
    play.settle()
    (told,) = play.told
    assert (told.answer.addresses, told.ttl_s) == (("10.9.0.1", "10.9.0.2"), 60.0)
    assert play.filled[0].routes == ("lan",)
    play.passes(20)
    play.forwarder.resolve(DB, 1, "r", play.now)
    play.settle()
    assert (play.told[1].ttl_s, len(play.asked)) == (40.0, 1)
    play.forwarder.resolve("elsewhere.example", 1, "r", play.now)
    play.settle()
    assert play.told[2].answer == REFUSAL


def test_who_resolves_a_name_that_too_many_wait_for_is_told_so(play: Play) -> None:
    play.zone[DB, "A"] = "silence"
    for _ in range(MOST_WAITING):
        play.ask(DB)
    play.forwarder.resolve(DB, 1, "r", play.now)
    play.settle()
    (told,) = play.told
    assert told.answer.failed


def test_who_waits_for_addresses_that_too_many_wait_for_is_told_so(play: Play) -> None:
    play.holds_fills = True
    for _ in range(MOST_WAITING):
        play.ask(DB)
    play.forwarder.resolve(DB, 1, "r", play.now)
    play.settle()
    (told,) = play.told
    assert told.answer.failed


def test_what_is_remembered_is_bounded() -> None:
    play = Play()
    play.forwarder = Forwarder(MARK)
    play.forwarder.follow(TERMS)
    strings = " ".join(f'"{"x" * 255}"' for _ in range(200))
    for number in range(1000):
        name = f"n{number}.corp.example"
        play.zone[name, "TXT"] = [f"{name}. 60 IN TXT {strings}"]
        play.ask(name, "TXT")
    assert play.forwarder.sizes["bytes"] <= 32 << 20
    assert play.forwarder.sizes["answers"] < 1000


@pytest.mark.parametrize("network", ["10.9", "127.9"], ids=["given", "left out"])
def test_as_much_is_booked_for_an_answer_as_it_takes(play: Play, network: str) -> None:
    tcp = [f"{DB}. 60 IN A {network}.{number >> 8}.{number & 255}" for number in range(3900)]
    play.zone[DB, "A"] = "silence"
    play.ask(DB)
    (ask,) = play.open_asks
    packet = reply(ask.packet, *tcp)
    play.holds_fills = True
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        answer = play.read(ask, packet)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    play.forwarder.answered(ask.number, answer, play.now)
    assert 0.8 * taken < play.forwarder.sizes["bytes"] < 2 * taken


def test_packets_that_are_answered_by_their_bytes_are_bounded_for_all_audiences_together(play: Play) -> None:
    play.forwarder.follow(replace(TERMS, audiences=(("lan",), ("lan", "web"))))
    play.ask(DB)
    packet = query(DB, options=[dns.edns.GenericOption(LOCAL, bytes(300))])
    for number in range(14_000):
        play.send(packet[:-4] + number.to_bytes(4), (ALICE, BOB)[number % 2])
    assert play.forwarder.sizes["hot bytes"] <= MOST_HOT_BYTES
    assert 0 < play.forwarder.sizes["hot"] < 12_000


def test_a_large_packet_is_not_known_by_its_bytes(play: Play) -> None:
    play.ask(DB)
    packet = query(DB, options=[dns.edns.GenericOption(LOCAL, bytes(600))])
    for _ in range(2):
        play.send(packet)
    assert (play.forwarder.sizes["hot"], play.forwarder.counts["hot"]) == (0, 0)
