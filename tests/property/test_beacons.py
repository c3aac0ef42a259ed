"""A reader that has no doubts misses nothing, and one that missed nothing has no doubts, whatever it heard and read."""

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.feed.certainty import Certainty
from services.management.core.feed.beacons import PAUSES_S, Beacons
from shared.events.documents import Beacon

OURS, OTHERS = ("account", "g.ours"), ("account", "g.others")
AUDIENCE = OURS[1]

Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(0, 4)),
        st.tuples(st.just("beacon"), st.just(0)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("takeover"), st.just(0)),
    ),
    max_size=40,
)


class Reading:
    """One stream of two audiences and one reader of the first.

    write 0: for the other audience, 1: heard, 2: not heard. read: on a server that misses so many of the last messages.
    lost: the writer learns that another replica may write; the stream still takes what it had written before that.
    """

    def __init__(self) -> None:
        self.beacons, self.certainty = Beacons(), Certainty()
        self.beacons.begin()
        self.now, self.sequence = 0.0, 0
        self.ours: list[int] = []
        self.here: set[int] = set()

    def step(self, step: Step) -> None:
        match step:
            case ("write", whose):
                self.sequence += 1
                self.beacons.stored(OURS if whose else OTHERS, self.sequence, self.now)
                if whose:
                    self.ours.append(self.sequence)
                if whose == 1:
                    self._take(self.sequence)
            case ("read", behind):
                self.read(self.sequence - behind)
            case ("lost", _):
                self.beacons.end()
            case ("takeover", _):
                self.beacons.begin()
                if self.ours:
                    self.beacons.stood(OURS, self.ours[-1], self.now)
            case ("beacon", _):
                self.beacon()

    def read(self, upto: int) -> None:
        found = [one for one in self.ours if self.certainty.position <= one <= upto]
        for one in found:
            self._take(one)
        self.certainty.read(max(found, default=0))

    def beacon(self) -> None:
        self.now += PAUSES_S[0]
        for audience, beacon in self.beacons.take(self.now, most=9):
            if audience == OURS:
                self.certainty.told(beacon, self.now, 0.0)
                assert self.missed_nothing(beacon) or self.certainty.due is not None

    def missed_nothing(self, beacon: Beacon) -> bool:
        return {one for one in self.ours if one <= beacon.newest} <= self.here

    def _take(self, sequence: int) -> None:
        self.here.add(sequence)
        self.certainty.took(sequence)


@given(steps)
def test_who_misses_something_doubts_once_a_beacon_came(history: list[Step]) -> None:
    reading = Reading()
    for step in history:
        reading.step(step)


@given(steps)
def test_a_doubt_ends_with_a_reading_of_everything(history: list[Step]) -> None:
    reading = Reading()
    for step in history:
        reading.step(step)
    reading.read(reading.sequence)
    reading.beacon()
    assert reading.certainty.due is None
    assert set(reading.ours) <= reading.here


@given(st.lists(st.sampled_from((0, 1, 1, "beacon")), max_size=40), st.integers(0, 3))
def test_who_hears_everything_never_reads_again(history: list[int | str], before: int) -> None:
    reading = Reading()
    for _ in range(before):
        reading.step(("write", 2))
    reading.beacon()
    reading.read(reading.sequence)
    for what in history:
        reading.step(("beacon", 0) if isinstance(what, str) else ("write", what))
        assert reading.certainty.due is None
