"""Heartbeats and what is made of them."""

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signal.core.presence import PeerHeard, PeerSilent, PresenceEvent, PresenceTracker, delta
from shared.events.facts import SessionFact
from shared.events.signals import Beat
from shared.events.subjects import BeatKey

A = BeatKey("acc", "a")
B = BeatKey("acc", "b")


def beat(peer: BeatKey, epoch: int, *, leaving: bool = False) -> Beat:
    return Beat(peer_id=peer.peer, epoch=epoch, leaving=leaving)


def tracker() -> PresenceTracker:
    return PresenceTracker(max_silence_s=15.0)


def test_the_first_heartbeat_is_an_edge_and_the_next_ones_are_not() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 100.0)
    presence.feed(A, beat(A, 1), 105.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=1, at=100.0)]
    assert presence.take() == []


def test_silence_is_noticed_at_its_deadline_and_dates_from_the_last_heartbeat() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 100.0)
    presence.feed(A, beat(A, 1), 105.0)
    presence.take()
    assert presence.next_deadline() == 120.0
    presence.advance(119.9)
    assert presence.take() == []
    presence.advance(120.0)
    assert presence.take() == [PeerSilent(peer=A, epoch=1, at=105.0)]
    assert presence.next_deadline() is None


def test_one_peers_heartbeats_do_not_hide_anothers_silence() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.feed(B, beat(B, 1), 1.0)
    presence.feed(A, beat(A, 1), 10.0)
    presence.take()
    presence.advance(16.0)
    assert presence.take() == [PeerSilent(peer=B, epoch=1, at=1.0)]
    assert presence.next_deadline() == 25.0


def test_a_goodbye_is_silence_at_once() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.feed(A, beat(A, 1, leaving=True), 2.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=1, at=0.0), PeerSilent(peer=A, epoch=1, at=2.0)]
    assert presence.next_deadline() is None


@pytest.mark.parametrize(
    ("epoch", "edges"),
    [
        pytest.param(4, [], id="an older session changes nothing"),
        pytest.param(5, [], id="a heartbeat that overtook the goodbye revives nobody"),
        pytest.param(6, [PeerHeard(peer=A, epoch=6, at=3.0)], id="a newer session counts"),
    ],
)
def test_after_a_goodbye_only_a_newer_session_is_heard(epoch: int, edges: list[PresenceEvent]) -> None:
    presence = tracker()
    presence.feed(A, beat(A, 5), 0.0)
    presence.feed(A, beat(A, 5, leaving=True), 1.0)
    presence.take()
    presence.feed(A, beat(A, epoch), 3.0)
    assert presence.take() == edges


def test_a_goodbye_of_an_older_session_does_not_end_the_newer_one() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 6), 0.0)
    presence.feed(A, beat(A, 5, leaving=True), 1.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=6, at=0.0)]


def test_a_restart_without_a_silence_between_is_an_edge() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.feed(A, beat(A, 2), 3.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=1, at=0.0), PeerHeard(peer=A, epoch=2, at=3.0)]


def test_a_peer_that_speaks_again_is_heard_again() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.advance(20.0)
    presence.take()
    presence.feed(A, beat(A, 1), 21.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=1, at=21.0)]


def test_a_session_that_was_connected_before_the_start_gets_the_time_to_be_heard_and_no_more() -> None:
    presence = tracker()
    presence.adopt(A, 1, connected=True, now=50.0)
    assert presence.take() == []
    presence.advance(64.9)
    assert presence.take() == []
    presence.advance(65.0)
    assert presence.take() == [PeerSilent(peer=A, epoch=1, at=50.0)]


def test_a_heartbeat_contradicts_a_fact_that_says_silent() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.take()
    presence.adopt(A, 1, connected=False, now=1.0)
    presence.feed(A, beat(A, 1), 5.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=1, at=5.0)]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_fact_that_is_older_than_the_goodbye_revives_nobody(epoch: int) -> None:
    presence = tracker()
    presence.feed(A, beat(A, 2), 0.0)
    presence.feed(A, beat(A, 2, leaving=True), 1.0)
    presence.take()
    presence.adopt(A, epoch, connected=True, now=2.0)  # written before, by this replica or another one
    assert presence.connected == 0
    presence.feed(A, beat(A, 2), 3.0)
    presence.advance(60.0)
    assert presence.take() == []


def test_a_fact_of_an_older_session_changes_nothing() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 2), 0.0)
    presence.adopt(A, 1, connected=False, now=1.0)
    presence.feed(A, beat(A, 2), 5.0)
    assert presence.take() == [PeerHeard(peer=A, epoch=2, at=0.0)]


def test_a_fact_does_not_prolong_what_is_heard_anyway() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.adopt(A, 1, connected=True, now=9.0)
    assert presence.next_deadline() == 15.0


def test_who_was_deaf_itself_counts_silence_anew() -> None:
    presence = tracker()
    presence.feed(A, beat(A, 1), 0.0)
    presence.take()
    presence.reset(100.0)
    presence.advance(100.0)
    assert presence.take() == []
    assert presence.next_deadline() == 115.0


@pytest.mark.parametrize(
    ("edge", "known", "written"),
    [
        pytest.param((5, True), None, True, id="nothing is known"),
        pytest.param((5, True), (5, True), False, id="another replica was faster"),
        pytest.param((5, False), (5, False), False, id="another replica noticed the silence"),
        pytest.param((5, False), (5, True), True, id="silence of the known session"),
        pytest.param((6, True), (5, True), True, id="a newer session"),
        pytest.param((4, False), (5, True), False, id="silence of an older session"),
        pytest.param((4, True), (5, False), False, id="an older session speaks"),
    ],
)
def test_an_edge_is_written_only_when_it_is_news(
    edge: tuple[int, bool], known: tuple[int, bool] | None, written: bool
) -> None:
    epoch, heard = edge
    event = PeerHeard(peer=A, epoch=epoch, at=1.0) if heard else PeerSilent(peer=A, epoch=epoch, at=1.0)
    before = known and SessionFact(peer_id="a", epoch=known[0], connected=known[1], since=0.0)
    fact = SessionFact(peer_id="a", epoch=epoch, connected=heard, since=7.5)
    assert delta(event, before or None, since=7.5) == (fact if written else None)


# A step: seconds that pass before it, the peer, its epoch, whether it says goodbye.
Step: TypeAlias = tuple[float, BeatKey, int, bool]

steps = st.lists(
    st.tuples(
        st.integers(0, 80).map(lambda quarter: quarter / 4),
        st.sampled_from([A, B]),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=30,
)


def connected_by_the_book(history: list[Step], peer: BeatKey) -> bool:
    """Whether the last heartbeat that counts is young enough, worked out from the whole history at its end."""
    at, newest, heard_at = 0.0, 0, None
    left: set[int] = set()
    for wait, who, epoch, leaving in history:
        at += wait
        if who != peer or epoch < newest:
            continue
        newest = epoch
        if leaving:
            left.add(epoch)
        heard_at = None if epoch in left else at
    return heard_at is not None and at - heard_at < 15.0


@given(steps)
def test_the_edges_add_up_to_what_the_history_says(history: list[Step]) -> None:
    presence, now = tracker(), 0.0
    connected = {A: False, B: False}
    for wait, peer, epoch, leaving in history:
        now += wait
        presence.advance(now)
        presence.feed(peer, beat(peer, epoch, leaving=leaving), now)
        for edge in presence.take():
            connected[edge.peer] = isinstance(edge, PeerHeard)
    assert connected == {peer: connected_by_the_book(history, peer) for peer in (A, B)}


@given(steps)
def test_a_silence_is_never_noticed_later_than_its_deadline(history: list[Step]) -> None:
    presence, now = tracker(), 0.0
    for wait, peer, epoch, leaving in history:
        now += wait
        presence.advance(now)
        presence.feed(peer, beat(peer, epoch, leaving=leaving), now)
        deadline = presence.next_deadline()
        assert deadline is None or now < deadline <= now + 15.0
