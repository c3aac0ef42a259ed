"""Laws of the prober, whatever comes back and however late it is called."""

from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.ha.echo import Echo
from services.agent.core.ha.line import LATE_S
from services.agent.core.ha.probing import Target
from tests.support.questions import Asked, World

paces = st.sampled_from((0.2, 1.0, 5.0))
takes = st.one_of(st.none(), st.floats(0.0, 0.25), st.floats(0.0, 3.0))
histories = st.lists(st.tuples(st.integers(1, 12), takes), min_size=1, max_size=12)
"""So many questions in a row are answered after so many seconds, or not at all."""
lateness = st.lists(
    st.one_of(st.just(0.0), st.floats(0.0, 0.02), st.sampled_from((0.3, 2.0, 60.0))), min_size=1, max_size=9
)


def world(pace_s: float, late: list[float], history: list[tuple[int, float | None]]) -> World:
    """One target, whose answers begin anew with the history at its end."""
    answers = cycle([took for count, took in history for _ in range(count)])
    lates = cycle(late)
    return World({"gw": Target("100.64.0.1", pace_s)}, lambda question, now: next(answers), late=lambda: next(lates))


@given(paces, lateness, st.lists(st.floats(0.0, 0.199), min_size=1, max_size=9))
def test_while_answers_come_in_time_nobody_is_down_however_late_the_prober_is_called(
    pace_s: float, late: list[float], took: list[float]
) -> None:
    there = world(pace_s, late, [(1, each) for each in took])
    there.run(300.0)
    assert all(turn.verdict == "up" for turn in there.turns)
    assert there.health().loss == 0.0


@given(paces, lateness, histories)
def test_down_is_only_who_left_five_questions_unanswered_and_all_of_600_ms(
    pace_s: float, late: list[float], history: list[tuple[int, float | None]]
) -> None:
    """Read from what was asked and answered alone. Whoever is called late waits longer, never shorter."""
    there = world(pace_s, late, history)
    there.run(60.0)
    for turn in there.turns:
        if turn.verdict != "down":
            continue
        so_far = [one for one in there.log if one.at < turn.at]
        heard = max((one.number for one in so_far if arrived(one, turn.at)), default=0)
        silent = [one for one in so_far if one.number > heard]
        assert heard, "who never answered is not down"
        assert turn.at - silent[0].at >= 0.6 - 1e-5
        assert len([one for one in silent if turn.at - one.at >= 0.2 - 1e-5]) >= 5


def arrived(one: Asked, by: float) -> bool:
    return one.took is not None and one.took < LATE_S and one.at + one.took <= by


@given(paces, st.floats(0.0, 0.09), st.floats(5.0, 30.0))
def test_silence_is_noticed_within_the_pace_and_600_ms(pace_s: float, took: float, ends: float) -> None:
    there = World({"gw": Target("100.64.0.1", pace_s)}, lambda question, now: took if now < 1000.0 + ends else None)
    there.run(ends + pace_s + 0.6 + 1e-3)
    assert there.health().verdict == "down"


@given(lateness, st.floats(5.0, 30.0))
def test_a_busy_host_notices_silence_after_as_much_time_of_its_own(late: list[float], ends: float) -> None:
    """Each time it is called late the silence lasts 20 ms shorter than the clock says, at most by what it was late."""
    lates = cycle(late)
    there = World(
        {"gw": Target("100.64.0.1", 0.2)},
        lambda question, now: 0.001 if now < 1000.0 + ends else None,
        late=lambda: next(lates),
    )
    calls = 2 + 0.6 / 0.05
    there.run(ends + 0.8 + calls * 2 * max(late) + 0.001)
    assert there.health().verdict in ("down", "unknown")
    assert not [turn for turn in there.turns if turn.verdict == "down" and turn.at < 1000.0 + ends]


@given(lateness, histories, st.lists(st.booleans(), min_size=1, max_size=9))
def test_what_the_kernel_did_not_send_is_nobodys_silence(
    late: list[float], history: list[tuple[int, float | None]], sent: list[bool]
) -> None:
    """As if it had never been asked: what is left are the answers, all of them in time."""
    sends = cycle(sent)
    there = world(0.2, late, [(count, 0.01) for count, _ in history])
    there.sends = lambda now: next(sends)
    there.run(120.0)
    assert all(turn.verdict == "up" for turn in there.turns)


@given(paces, lateness, histories, st.integers(0, 10**6), st.sampled_from(("100.64.0.1", "100.64.0.9")))
def test_made_up_answers_change_nothing(
    pace_s: float, late: list[float], history: list[tuple[int, float | None]], number: int, source: str
) -> None:
    there, beside = world(pace_s, late, history), world(pace_s, late, history)
    for _ in range(20):
        there.run(1.0)
        beside.run(1.0)
        known = [one.number for one in there.log] if source == "100.64.0.1" else []
        if number not in known:
            assert there.prober.answered(number, source, there.now) == "old"
        assert there.prober.health == beside.prober.health


@given(st.binary(max_size=40), st.integers(0, 39), st.integers(1, 255), st.sampled_from(("100.64.0.1", "fd00:64::1")))
def test_no_other_message_passes_for_an_answer(noise: bytes, at: int, flip: int, source: str) -> None:
    echo = Echo(b"s" * 32, 7)
    assert isinstance(echo.answered(source, noise), str)
    question = echo.question(source, 12)
    answer = bytearray((0 if question[0] == 8 else 129,)) + question[1:]
    assert echo.answered(source, bytes(answer)) == 12
    where = at % len(answer)
    answer[where] ^= flip
    assert (echo.answered(source, bytes(answer)) == 12) == (where in (2, 3)), "the kernel checks the checksum"
