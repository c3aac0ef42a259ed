"""When an audience is read again."""

from services.agent.core.feed.certainty import MOST_TRIES, PATIENCE_S, Certainty
from shared.events.documents import Beacon


def told(certainty: Certainty, after: int, newest: int, count: int, now: float = 0.0) -> None:
    certainty.told(Beacon(after=after, newest=newest, count=count), now, 0.0)


def test_what_is_on_its_way_gets_the_time_to_arrive() -> None:
    certainty = Certainty()
    certainty.read(3)
    told(certainty, 3, 5, 1)
    assert not certainty.take_due(PATIENCE_S - 0.1, 0.0)
    certainty.took(5)
    assert not certainty.take_due(PATIENCE_S, 0.0)
    assert certainty.position == 5


def test_what_never_came_is_read_from_where_everything_is_known() -> None:
    certainty = Certainty()
    certainty.read(3)
    told(certainty, 3, 6, 2)
    certainty.took(6)
    assert certainty.take_due(PATIENCE_S, 0.0)
    assert certainty.position == 3
    certainty.read(6)
    assert certainty.due is None


def test_an_audience_that_nothing_is_known_of_is_read_when_a_beacon_speaks_of_it() -> None:
    certainty = Certainty()
    told(certainty, 7, 7, 0)
    assert certainty.take_due(PATIENCE_S, 0.0)
    assert certainty.position == 0


def test_a_server_that_is_behind_is_asked_again_ever_more_seldom_and_not_for_ever() -> None:
    certainty = Certainty()
    told(certainty, 3, 4, 1)
    asked = []
    while (deadline := certainty.due) is not None:
        if certainty.take_due(deadline, 0.0):
            asked.append(deadline)
            certainty.read(3)
            told(certainty, 3, 4, 1, deadline)  # the same beacon once more
    assert len(asked) == MOST_TRIES
    assert asked[:4] == [0.5, 1.0, 2.0, 4.0]
    assert 60.0 < asked[-1] < 120.0


def test_a_stream_made_anew_is_certain_of_nothing_until_it_is_read() -> None:
    certainty = Certainty()
    certainty.read(90)
    certainty.took(91)
    certainty.begin()
    assert certainty.position == 0
    certainty.read(2)
    assert certainty.position == 2
