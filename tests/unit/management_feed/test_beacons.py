"""What readers are told of each audience, and how often."""

from services.management.core.feed.beacons import PAUSES_S, Beacons
from shared.events.documents import Beacon

OFFICE, LAB = ("account", "g.office"), ("account", "g.lab")


def begun() -> Beacons:
    beacons = Beacons()
    beacons.begin()
    return beacons


def said(beacons: Beacons, until: float) -> list[tuple[float, Beacon]]:
    """Everything that is said until then, and when."""
    found = []
    while (deadline := beacons.next_deadline()) is not None and deadline <= until:
        found += [(deadline, beacon) for _, beacon in beacons.take(deadline, most=10)]
    return found


def test_a_change_is_told_soon_and_then_ever_more_seldom_and_not_for_ever() -> None:
    beacons = begun()
    beacons.stored(OFFICE, 4, 0.0)
    told = said(beacons, 1e6)
    assert [at for at, _ in told] == [0.5, 1.5, 3.5, 7.5, 17.5, 47.5, 167.5, 767.5]
    assert {beacon for _, beacon in told} == {Beacon(after=0, newest=4, count=1)}


def test_changes_in_a_row_are_told_together_and_each_beacon_goes_on_where_the_last_one_ended() -> None:
    beacons = begun()
    for sequence in (4, 5, 7):
        beacons.stored(OFFICE, sequence, 0.0)
    assert said(beacons, 1.0) == [(0.5, Beacon(after=0, newest=7, count=3))]
    beacons.stored(OFFICE, 9, 1.1)
    assert said(beacons, 2.0)[-1] == (1.5, Beacon(after=7, newest=9, count=1))


def test_only_readers_of_what_changed_are_told() -> None:
    beacons = begun()
    beacons.stored(OFFICE, 4, 0.0)
    beacons.stored(LAB, 5, 0.0)
    assert beacons.take(PAUSES_S[0], most=1) == [(LAB, Beacon(after=0, newest=5, count=1))]
    assert beacons.take(PAUSES_S[0], most=1) == [(OFFICE, Beacon(after=0, newest=4, count=1))]
    said(beacons, 1e6)
    beacons.stored(LAB, 6, 1e6)
    assert [audience for audience, _ in beacons.take(2e6, most=9)] == [LAB]


def test_a_new_writer_tells_of_what_stood_there_and_counts_from_then_on() -> None:
    beacons = begun()
    for sequence in (2, 6):
        beacons.stood(OFFICE, sequence, 0.0)
    assert said(beacons, 1.0) == [(0.5, Beacon(after=6, newest=6, count=0))]
    beacons.stood(OFFICE, 7, 1.0)
    assert said(beacons, 2.0) == [(1.5, Beacon(after=7, newest=7, count=0))]
    beacons.stored(OFFICE, 9, 2.0)
    assert said(beacons, 2.5) == [(2.5, Beacon(after=7, newest=9, count=1))]


def test_what_is_stored_after_the_end_is_the_successors_to_tell() -> None:
    beacons = begun()
    beacons.stood(OFFICE, 25, 0.0)
    beacons.end()
    beacons.stored(OFFICE, 26, 0.0)
    assert said(beacons, 1e6) == []
    beacons.begin()
    beacons.stood(OFFICE, 26, 0.0)
    assert said(beacons, 0.5) == [(0.5, Beacon(after=26, newest=26, count=0))]
