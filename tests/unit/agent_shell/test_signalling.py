"""Sealed signals: only the receiver opens them, and only as what they are."""

import base64

import msgspec
import pytest
from nacl.public import Box, PrivateKey, PublicKey

from services.agent.bus.signalling import MAX_AGE_S, Signalling, Unusable, seal, unseal
from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.reconcile.desired import Local
from services.agent.situation import Situation
from shared.bus.codec import decode
from shared.events.documents import PeerDoc
from shared.events.signals import Beat, Candidates, Departed

NOW = 1_800_000_000.0
ALICE, BOB, EVE = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()
MESSAGE = Candidates(
    session="0123456789", generation=3, endpoints=("192.0.2.1:51820",), answer_wanted=True, sent_at=NOW
)
TO_BOB = ("alice", "bob")


def public(key: PrivateKey) -> str:
    return base64.b64encode(bytes(key.public_key)).decode()


def test_the_receiver_reads_what_the_sender_said() -> None:
    sealed = seal(MESSAGE, ALICE, public(BOB), TO_BOB)
    assert unseal(sealed, BOB, public(ALICE), TO_BOB, NOW) == MESSAGE


def test_a_signal_is_24_nonce_bytes_and_a_box() -> None:
    sealed = seal(MESSAGE, ALICE, public(BOB), TO_BOB)
    opened = Box(BOB, PublicKey(base64.b64decode(public(ALICE)))).decrypt(sealed[24:], sealed[:24])
    assert msgspec.msgpack.decode(opened, type=Candidates) == MESSAGE


def test_no_two_signals_share_a_nonce() -> None:
    assert len({seal(MESSAGE, ALICE, public(BOB), TO_BOB)[:24] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("own", "sender_key", "direction"),
    [
        (EVE, public(ALICE), TO_BOB),
        (BOB, public(EVE), TO_BOB),
        (BOB, public(ALICE), ("eve", "bob")),
        (BOB, public(ALICE), ("alice", "eve")),
        (ALICE, public(BOB), ("bob", "alice")),
        (BOB, "no key", TO_BOB),
    ],
    ids=["another receiver", "another sender", "in another name", "to another name", "reflected", "sender without key"],
)
def test_it_opens_for_nobody_else_and_as_nothing_else(
    own: PrivateKey, sender_key: str, direction: tuple[str, str]
) -> None:
    sealed = seal(MESSAGE, ALICE, public(BOB), TO_BOB)
    with pytest.raises(Unusable):
        unseal(sealed, own, sender_key, direction, NOW)


@pytest.mark.parametrize("at", [NOW + MAX_AGE_S + 1, NOW - MAX_AGE_S - 1, float("nan")])
def test_an_old_signal_is_refused(at: float) -> None:
    with pytest.raises(Unusable, match="five minutes"):
        unseal(seal(MESSAGE, ALICE, public(BOB), TO_BOB), BOB, public(ALICE), TO_BOB, at)


@pytest.mark.parametrize("sealed", [b"", b"x" * 10, b"x" * 24, b"x" * 200])
def test_rubbish_is_refused(sealed: bytes) -> None:
    with pytest.raises(Unusable):
        unseal(sealed, BOB, public(ALICE), TO_BOB, NOW)


@pytest.mark.parametrize(
    "content",
    [msgspec.msgpack.encode(Beat(peer_id="alice", epoch=1)), b"", b"\xc1", b"\x91" * 60_000, b"\x81\xa1x" * 5_000],
    ids=["of another type", "nothing", "no message", "lists in lists", "maps in maps"],
)
def test_what_is_sealed_rightly_and_is_no_signal_is_refused(content: bytes) -> None:
    nonce = seal(MESSAGE, ALICE, public(BOB), TO_BOB)[:24]
    with pytest.raises(Unusable):
        unseal(bytes(Box(ALICE, BOB.public_key).encrypt(content, nonce)), BOB, public(ALICE), TO_BOB, NOW)


def knows(**keys: str) -> Situation:
    """A host whose documents name these peers."""
    situation = Situation(Local(public_key="", listen_port=1))
    situation.documents.set(Documents(peers={name: peer_doc(name, key) for name, key in keys.items()}))
    return situation


def peer_doc(name: str, key: str) -> parsed.Peer:
    return parsed.peer(
        PeerDoc(
            peer_id=name,
            name=name,
            fqdn="",
            wireguard_key=key,
            address_v4="100.64.0.2",
            address_v6="",
            groups=(),
            version="",
        )
    )


async def test_two_hosts_introduce_themselves_and_say_goodbye() -> None:
    sent: list[tuple[str, bytes]] = []

    async def publish(subject: str, payload: bytes) -> bool:
        sent.append((subject, payload))
        return True

    strange = {"no_key": "none", "key_of_nobody": base64.b64encode(bytes((1, *bytes(31)))).decode()}
    alice = Signalling(knows(bob=public(BOB), **strange), publish, "acc", "alice", ALICE, 17)
    bob = Signalling(knows(alice=public(ALICE)), publish, "acc", "bob", BOB, 17)
    for receiver in ("bob", "nobody", "no_key", "key_of_nobody"):
        assert await alice.introduce(receiver, ("192.0.2.1:1",), generation=3, answer_wanted=False)
    await alice.leave()
    (where, sealed), (beat_at, goodbye) = sent
    assert where == "signal.acc.from.alice.bob"
    opened = bob.opened("alice", sealed)
    assert isinstance(opened, Candidates)
    assert (opened.endpoints, opened.generation, opened.answer_wanted) == (("192.0.2.1:1",), 3, False)
    assert bob.opened("nobody", sealed) is None
    assert alice.opened("bob", sealed) is None
    assert beat_at == "signal.acc.beat.alice"
    assert decode(beat_at, goodbye, Beat) == Beat(peer_id="alice", epoch=17, leaving=True)


@pytest.mark.parametrize("ahead_s", [1.0, 3600.0])
async def test_a_clock_that_was_set_back_silences_no_farewell(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    sent: list[bytes] = []

    async def publish(subject: str, payload: bytes) -> bool:
        sent.append(payload)
        return True

    now = NOW + ahead_s
    monkeypatch.setattr("services.agent.bus.signalling.time.time", lambda: now)
    alice = Signalling(knows(bob=public(BOB)), publish, "acc", "alice", ALICE, 17)
    await alice.depart("bob", ("lan",))
    now = NOW
    await alice.depart("bob", ("lan",))
    said = unseal(sent[1], BOB, public(ALICE), TO_BOB, NOW)
    assert isinstance(said, Departed)
    assert (said.sent_at > NOW + ahead_s) == (ahead_s < MAX_AGE_S), "later than the last one, while that is believed"
