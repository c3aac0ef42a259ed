"""Reading on where one was gives what the stream holds, also when the stream is not the one that was read before."""

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.documents import FeedView
from services.agent.core.feed.landmarks import Landmarks
from shared.events.documents import FeedMessage, Tombstone
from shared.events.subjects import FeedKey
from tests.unit.agent import make

ALL = "g.all"
Stream = list[tuple[int, FeedKey, FeedMessage]]
WRITES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=12)


def grown(stream: Stream, writes: list[tuple[str, bool]], life: int) -> Stream:
    """The stream with these written to it: the last message of each subject. A life writes other messages."""
    last = {key: (sequence, key, message) for sequence, key, message in stream}
    sequence = max((sequence for sequence, _, _ in stream), default=0)
    for name, deleted in writes:
        sequence += 1
        key = FeedKey("acc", ALL, "peer", name)
        document = Tombstone() if deleted else make.peer(name, version=f"{life}.{sequence}")
        last[key] = (sequence, key, FeedMessage(100 * life + sequence, document))
    return sorted(last.values(), key=lambda one: one[0])


def is_the_same(view: FeedView, stream: Stream) -> bool:
    there = {key.id: m.document for _, key, m in stream if not isinstance(m.document, Tombstone)}
    return {name: peer.version for name, peer in view.documents().peers.items()} == {
        name: document.version for name, document in there.items() if hasattr(document, "version")
    }


def read_on(view: FeedView, stream: Stream, position: int) -> bool:
    """Whether the landmarks were found."""
    landmarks = Landmarks(view.held(ALL), position)
    for sequence, key, message in stream if landmarks.start else ():
        if sequence >= landmarks.start:
            landmarks.saw(key, sequence, message)
            view.apply(key, sequence, message)
    return landmarks.found


def read_first(stream: Stream) -> tuple[FeedView, int]:
    view = FeedView()
    for sequence, key, message in stream:
        view.apply(key, sequence, message)
    return view, max((sequence for sequence, _, _ in stream), default=0)


@given(WRITES, WRITES, st.integers(0, 12), WRITES)
def test_who_finds_his_landmarks_in_another_stream_misses_nothing_and_keeps_nothing(
    before: list[tuple[str, bool]], heard: list[tuple[str, bool]], cut: int, after: list[tuple[str, bool]]
) -> None:
    backup = grown([], before, 1)
    view, position = read_first(grown(backup, heard, 2))
    restored = grown([one for one in backup if one[0] <= cut], after, 3)
    if read_on(view, restored, position):
        assert is_the_same(view, restored)


@given(WRITES, WRITES)
def test_who_reads_the_same_stream_on_has_all_of_it(
    before: list[tuple[str, bool]], after: list[tuple[str, bool]]
) -> None:
    view, position = read_first(grown([], before, 1))
    stream = grown(grown([], before, 1), after, 2)
    kept = {key for _, key, _ in grown([], before, 1)} - {key for sequence, key, _ in stream if sequence > position}
    found = read_on(view, stream, position)
    newest = sorted([sequence for sequence, _, _ in grown([], before, 1)])[-4:]
    assert found == any(sequence in newest and key in kept for sequence, key, _ in stream)
    if found:
        assert is_the_same(view, stream)
