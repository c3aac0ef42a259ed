"""Laws of the choice, over candidates that change as they like and a clock that goes on, or back."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.ha.choice import Chosen, Memory, choose
from services.agent.core.ha.standing import Candidate

NAMES = ("a", "b", "c", "d")
RTTS = (0.0, 0.001, 0.015, 0.03, 0.2)


class Look(NamedTuple):
    seconds: float
    candidates: tuple[Candidate, ...]


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Candidate, ...]:
    rare = st.sampled_from((False, False, False, True))
    return tuple(
        Candidate(
            peer_id=name,
            public_key=draw(st.sampled_from((name, name, name, "other"))),
            metric=draw(st.sampled_from((1, 1, 2))),
            connected=not draw(rare),
            verdict=draw(st.sampled_from(("up", "up", "unknown", "down"))),
            withdrawn="no link" if draw(rare) else "",
            draining=draw(rare),
            agentless=draw(rare),
            holds=draw(rare),
            relayed=draw(rare),
            rtt_s=draw(st.sampled_from(RTTS)),
        )
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True))
    )


waits = st.sampled_from((0.0, 0.1, 1.0, 2.9, 3.0, 3.1, 10.0, 60.0, 500.0))
histories = st.lists(st.builds(Look, waits, candidates()), min_size=1, max_size=12)


def lived(history: list[Look], *, mirrored: bool = False) -> Iterator[tuple[Look, str, Chosen, float]]:
    """Each look with the incumbent before it, what was chosen, and when."""
    incumbent, memory, now = "", Memory(), 1000.0
    for look in history:
        now += look.seconds
        given_ = look.candidates[::-1] if mirrored else look.candidates
        chosen = choose(given_, incumbent, memory, now)
        yield look, incumbent, chosen, now
        incumbent, memory = chosen.peer_id, chosen.memory


def by_id(look: Look) -> dict[str, Candidate]:
    return {one.peer_id: one for one in look.candidates}


@given(histories)
def test_the_order_of_the_candidates_does_not_matter(history: list[Look]) -> None:
    for (_, _, one, _), (_, _, other, _) in zip(lived(history), lived(history, mirrored=True), strict=True):
        assert one == other


@given(histories)
def test_choosing_again_changes_nothing_and_what_is_due_lies_ahead(history: list[Look]) -> None:
    for look, _, chosen, now in lived(history):
        again = choose(look.candidates, chosen.peer_id, chosen.memory, now)
        assert (again.peer_id, again.cause, again.memory) == (chosen.peer_id, "", chosen.memory)
        assert (again.ranked, again.next_deadline) == (chosen.ranked, chosen.next_deadline)
        assert chosen.next_deadline is None or chosen.next_deadline > now


@given(histories, st.floats(0.0, 10_000.0))
def test_a_clock_that_goes_back_is_one_that_stands(history: list[Look], back_s: float) -> None:
    for look, _, chosen, now in lived(history):
        again = choose(look.candidates, chosen.peer_id, chosen.memory, now - back_s)
        assert (again.peer_id, again.memory) == (chosen.peer_id, chosen.memory)


@given(histories)
def test_whoever_is_usable_carries_and_one_who_is_not_only_for_lack_of_another_r2(history: list[Look]) -> None:
    for look, incumbent, chosen, _ in lived(history):
        found = by_id(look)
        if any(one.usable for one in look.candidates):
            assert found[chosen.peer_id].usable
        elif chosen.peer_id:
            one = found[chosen.peer_id]
            assert (chosen.peer_id, one.connected, one.verdict, one.withdrawn) == (incumbent, True, "down", "")
            assert chosen.is_silent


@given(histories)
def test_an_incumbent_that_is_usable_is_left_for_a_reason_that_holds_g1_g4_g6(history: list[Look]) -> None:
    for look, incumbent, chosen, _ in lived(history):
        former, now = by_id(look).get(incumbent), by_id(look).get(chosen.peer_id)
        if former is None or now is None or not former.usable or former is now:
            continue
        holds = {
            "drain": former.draining and not now.draining,
            "holder": now.holds and not former.holds,
            "metric": now.metric < former.metric,
            "path": former.relayed and not now.relayed,
            "latency": now.metric == former.metric and former.rtt_s - now.rtt_s > 0.02,
        }
        assert holds[chosen.cause]


@given(candidates(), waits)
def test_what_does_not_change_settles_and_stays(found: tuple[Candidate, ...], first_s: float) -> None:
    """Looked at whenever it asks to be, it asks no more after a while, and has not moved to and fro."""
    incumbent, memory, now = "", Memory(), 1000.0 + first_s
    carriers = []
    for _ in range(20):
        chosen = choose(found, incumbent, memory, now)
        incumbent, memory = chosen.peer_id, chosen.memory
        carriers.append(incumbent)
        if chosen.next_deadline is None:
            break
        now = chosen.next_deadline
    assert chosen.next_deadline is None
    moves = [one for one, other in pairwise(carriers) if one != other]
    assert len(moves) == len(set(moves))
