"""What is no message is Undecodable, whatever it is: a reader that fails on it would fail again with every start."""

import msgspec
import pytest

from shared.bus.codec import decode, encode
from shared.errors import Undecodable
from shared.events.facts import ReportFact
from shared.events.signals import Beat

JUNK = {
    "nothing": b"",
    "unused byte": b"\xc1",
    "nil": b"\xc0",
    "a map without end": b"\xdf\xff\xff\xff\xff",
    "no text": b"\x81\xa4type\xa4\xff\xff\xff\xff",
    "maps in maps": b"\x81\xa1a" * 5_000 + b"\xc0",
    "lists in lists": b"\x91" * 60_000,
    "a field nested without end": b"\x82\xa4type\xa7beat.v1\xa1x" + b"\x91" * 60_000,
}


@pytest.mark.parametrize("type_", [Beat, ReportFact])
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_is_undecodable(junk: bytes, type_: type[msgspec.Struct]) -> None:
    with pytest.raises(Undecodable) as problem:
        decode("fact.a.peer.p.report", junk, type_)
    assert problem.value.subject == "fact.a.peer.p.report"


def test_a_message_comes_back_as_it_was() -> None:
    beat = Beat(peer_id="p", epoch=1)
    assert decode("s", encode(beat), Beat) == beat
