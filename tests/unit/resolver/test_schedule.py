"""When names are asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resolver.core.questions import Question
from services.resolver.core.schedule import Due, Schedule


def due_names(schedule: Schedule, now: float) -> list[str]:
    return [due.question.name for due in schedule.due(now)]


def test_d6_a_new_name_is_asked_for_at_once() -> None:
    schedule = Schedule(60.0)
    schedule.want([Question("a.example")], 100.0)
    assert schedule.next_at() == 100.0
    assert schedule.due(100.0) == [Due(Question("a.example"), failed=False)]


@pytest.mark.parametrize(
    ("interval_s", "failed", "fraction", "next_at"),
    [
        pytest.param(60.0, False, 0.0, 160.0, id="the interval"),
        pytest.param(60.0, False, 0.5, 157.0, id="less at most a tenth of it"),
        pytest.param(60.0, True, 0.0, 105.0, id="five seconds after a total failure"),
        pytest.param(3.0, True, 0.0, 103.0, id="a failure is not asked again later than a success"),
        pytest.param(2.0, False, 0.99, 102.0, id="the floor"),
        pytest.param(0.1, False, 0.0, 102.0, id="no interval is below the floor"),
        pytest.param(0.0, True, 0.99, 102.0, id="nor after a failure"),
    ],
)
def test_d6_when_a_name_is_asked_for_again(interval_s: float, failed: bool, fraction: float, next_at: float) -> None:
    schedule = Schedule(interval_s)
    schedule.want([Question("a.example")], 90.0)
    schedule.due(90.0)
    schedule.done(Question("a.example"), failed=failed, now=100.0, fraction=fraction)
    assert schedule.next_at() == next_at
    assert due_names(schedule, next_at - 0.01) == []
    assert schedule.due(next_at) == [Due(Question("a.example"), failed=failed)]


def test_d7_a_name_that_takes_long_holds_up_no_other() -> None:
    schedule = Schedule(60.0)
    schedule.want([Question("slow.example"), Question("fast.example")], 0.0)
    assert due_names(schedule, 0.0) == ["slow.example", "fast.example"]
    schedule.done(Question("fast.example"), failed=False, now=0.1, fraction=0.0)
    assert due_names(schedule, 60.1) == ["fast.example"]


def test_a_name_that_is_being_asked_for_is_not_asked_for_twice() -> None:
    schedule = Schedule(60.0)
    schedule.want([Question("a.example")], 0.0)
    schedule.due(0.0)
    schedule.want([Question("a.example")], 1.0)
    assert (schedule.next_at(), schedule.due(1000.0)) == (None, [])


def test_a_name_that_nobody_wants_any_more_is_forgotten() -> None:
    schedule = Schedule(60.0)
    schedule.want([Question("a.example"), Question("b.example")], 0.0)
    assert due_names(schedule, 0.0) == ["a.example", "b.example"]
    schedule.want([Question("b.example")], 1.0)
    schedule.done(Question("a.example"), failed=False, now=2.0, fraction=0.0)
    schedule.done(Question("b.example"), failed=False, now=2.0, fraction=0.0)
    assert due_names(schedule, 1000.0) == ["b.example"]


def test_a_name_that_is_wanted_again_is_new() -> None:
    schedule = Schedule(60.0)
    schedule.want([Question("a.example")], 0.0)
    schedule.due(0.0)
    schedule.done(Question("a.example"), failed=True, now=0.0, fraction=0.0)
    schedule.want([], 1.0)
    schedule.want([Question("a.example")], 2.0)
    assert schedule.due(2.0) == [Due(Question("a.example"), failed=False)]
    assert schedule.next_at() is None


def test_nothing_wanted_is_nothing_due() -> None:
    schedule = Schedule(60.0)
    assert (schedule.next_at(), schedule.due(1000.0)) == (None, [])


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcd")), st.sampled_from("abcd"), st.booleans(), st.floats(0, 0.99))),
    st.floats(0, 100),
)
def test_d6_every_wanted_name_is_asked_for_within_the_interval_and_never_below_the_floor(
    steps: list[tuple[set[str], str, bool, float]], interval_s: float
) -> None:
    schedule, now = Schedule(interval_s), 0.0
    asked_at: dict[str, float] = {}
    for wanted, _, failed, fraction in steps:
        schedule.want(map(Question, wanted), now)
        asked_at = {name: at for name, at in asked_at.items() if name in wanted}
        for name in due_names(schedule, now):
            assert name in wanted
            assert name not in asked_at or now - asked_at[name] >= 2.0
            asked_at[name] = now
            schedule.done(Question(name), failed=failed, now=now, fraction=fraction)
        assert asked_at.keys() == wanted
        assert all(now - at < max(2.0, interval_s) for at in asked_at.values())
        now += 1.0
