"""The forwarder among packets that nobody meant: it goes on, holds no more than its bounds, and never amplifies.

WHIMBREL_FUZZ_PACKETS=1000000 makes it as many packets; a few thousand are in the suite.
"""

import os
import random
import struct

import dns.edns

from services.agent.core.forwarder.forwarder import MOST_BYTES, MOST_LOOKUPS
from services.agent.core.forwarder.questions import LARGEST_BYTES
from tests.support.forwarding import ALICE, BOB, STRANGER, Play, query, reply

PACKETS = int(os.environ.get("WHIMBREL_FUZZ_PACKETS", "6000"))
NAMES = ["db.corp.example", "a.b.corp.example", "www.example", "mx.example", "elsewhere.example", "corp.example"]
KINDS = ["A", "AAAA", "TXT", "HTTPS", "CNAME", "ANY", "AXFR", "SOA"]


def mutated(packet: bytes, chance: random.Random) -> bytes:
    """The packet with a few bytes changed, cut out, put in or repeated."""
    spoiled = bytearray(packet)
    for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
        at = chance.randrange(len(spoiled) + 1)
        match chance.randrange(5):
            case 0 if spoiled:
                spoiled[at % len(spoiled)] = chance.randrange(256)
            case 1:
                del spoiled[at : at + chance.randrange(8)]
            case 2:
                spoiled[at:at] = chance.randbytes(chance.randrange(8))
            case 3 if len(spoiled) > 1:
                struct.pack_into(">H", spoiled, at % (len(spoiled) - 1), chance.choice((0, 1, 0xC00C, 0xFFFF)))
            case _:
                spoiled[at:at] = spoiled[at : at + chance.randrange(40)]
    return bytes(spoiled)


def question(chance: random.Random) -> bytes:
    name = chance.choice(NAMES)
    spelled = "".join(chance.choice((letter.lower(), letter.upper())) for letter in name)
    options: dict[str, object] = {"edns": chance.random() < 0.7, "id": chance.randrange(1 << 16)}
    if options["edns"]:
        options["payload"] = chance.choice((0, 512, 1232, 4096, 65535))
        options["want_dnssec"] = chance.random() < 0.2
        if chance.random() < 0.2:
            options["options"] = [dns.edns.GenericOption(dns.edns.OptionType.make(10), chance.randbytes(8))]
    return query(spelled, chance.choice(KINDS), **options)


def said_by_nameservers(packet: bytes, name: str, chance: random.Random) -> bytes:
    records = {
        0: [f"{name}. 60 IN A 10.9.{number >> 8}.{number & 255}" for number in range(chance.choice((1, 3, 200)))],
        1: [f"{name}. 1 IN CNAME x.test.", "x.test. 9 IN CNAME y.test.", "y.test. 60 IN A 203.0.113.1"],
        2: [f'{name}. 0 IN TXT "{"x" * 255}" "{"y" * 255}" "{"z" * 255}" "{"x" * 255}" "{"y" * 255}"'],
        3: [f"{name}. 60 IN HTTPS 1 . alpn=h2 ipv4hint=10.9.0.1"],
        4: [f"{name}. 60 IN AAAA fd00:9::1", f"{name}. 60 IN AAAA ::1", f"{name}. 60 IN AAAA ::ffff:1.2.3.4"],
        5: [],
    }[chance.randrange(6)]
    rcode = chance.choice(("NOERROR", "NOERROR", "NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"))
    return mutated(reply(packet, *records, rcode=rcode), chance)


def test_packets_that_nobody_meant_change_nothing_but_what_they_are_about() -> None:
    chance = random.Random(PACKETS)
    play = Play()
    play.zone = dict.fromkeys(((name, kind) for name in NAMES for kind in KINDS), "silence")
    largest = 0
    for number in range(PACKETS):
        packet = mutated(question(chance), chance)
        source, tcp = chance.choice((ALICE, ALICE, BOB, STRANGER, "fd00:64::7")), chance.random() < 0.05
        play.sent.clear()
        answer = play.send(packet, source, tcp=tcp)
        for one in (answer, *play.sent.values()):
            if one is not None and not tcp:
                largest = max(largest, len(one))
                assert len(one) <= LARGEST_BYTES, packet.hex()
        if answer is not None and source == STRANGER:
            assert len(answer) <= len(packet) + 11, "who may not ask gets no more than he sent, and an OPT record"
        while len(play.open_asks) > 3:
            ask = play.open_asks[0]
            name = b".".join(ask.question.name).decode("latin-1") if number % 5 else "db.corp.example"
            name = name if name.replace(".", "").replace("-", "").isalnum() and name.isascii() else "db.corp.example"
            spoken = said_by_nameservers(ask.packet, name, chance)
            if len(spoken) >= 12:
                play.answer(ask, spoken)
            else:
                play.open_asks.remove(ask)
                play.forwarder.answered(ask.number, play.read(ask, b""), play.now)
                play.settle()
        if chance.random() < 0.05:
            play.passes(chance.choice((0.1, 2.0, 31.0, 400.0)))
        if number % 500 == 0:
            play.asked.clear()
            play.filled.clear()
    sizes = play.forwarder.sizes
    assert sizes["lookups"] <= min(MOST_LOOKUPS, 8)
    assert sizes["fillings"] == 0
    assert sizes["bytes"] <= MOST_BYTES
    assert sizes["patient"] <= 64
    assert play.forwarder.counts["hot"] + play.forwarder.counts["known"] > 0, "there was something to answer"
    last = play.ask("db.corp.example", "NS")
    assert last is None or last.question
