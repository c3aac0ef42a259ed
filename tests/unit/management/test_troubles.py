"""Why no change is taken: when it is said, when it ends a change, and when it is over."""

from collections.abc import Sequence

import pytest
import structlog.testing

from services.management.errors import ChangesRefused
from services.management.ports import PATIENCE_S
from services.management.troubles import Troubles


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def troubles(clock: Clock) -> Troubles:
    return Troubles(clock=clock)


def refusal(troubles: Troubles) -> Sequence[str]:
    try:
        troubles.require_changeable()
    except ChangesRefused as refused:
        return refused.lines
    return ()


def test_what_stays_ends_a_change_at_once_and_what_passes_only_after_a_while(troubles: Troubles, clock: Clock) -> None:
    troubles.arise("stream", "it has no leader", passing=True)
    assert (troubles.lines, refusal(troubles)) == (("it has no leader",), ())
    clock.now += PATIENCE_S
    assert refusal(troubles) == ("it has no leader",)
    troubles.arise("disk", "the disk is full")
    assert refusal(troubles) == ("it has no leader", "the disk is full")
    troubles.end("stream")
    assert refusal(troubles) == ("the disk is full",)
    troubles.end("disk")
    assert (troubles.lines, refusal(troubles)) == ((), ())


def test_looking_again_does_not_begin_the_wait_anew_and_its_end_does(troubles: Troubles, clock: Clock) -> None:
    troubles.arise("stream", "no answer", passing=True)
    clock.now += PATIENCE_S - 1
    troubles.arise("stream", "no leader", passing=True)
    assert refusal(troubles) == ()
    clock.now += 1
    assert refusal(troubles) == ("no leader",)
    troubles.end("stream")
    troubles.arise("stream", "no leader", passing=True)
    assert refusal(troubles) == ()


def test_what_turns_out_to_stay_is_not_waited_for(troubles: Troubles) -> None:
    troubles.arise("stream", "no answer", passing=True)
    troubles.arise("stream", "the disk is full")
    assert refusal(troubles) == ("the disk is full",)


def test_a_replica_is_ready_unless_the_trouble_is_its_own_or_nothing_is_answered() -> None:
    own: list[str] = []
    troubles = Troubles(lambda: own)
    troubles.arise("disk", "the disk of the bus is full")
    assert troubles.ready
    own.append("the bus does not answer")
    troubles.arise("bus", "the bus does not answer", passing=True)
    assert not troubles.ready
    assert troubles.lines == ("the disk of the bus is full", "the bus does not answer")
    own.clear()
    troubles.arise("log", "the log is empty", serves=False)
    assert not troubles.ready


def test_each_reason_is_logged_once_and_its_end_as_well(troubles: Troubles) -> None:
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            troubles.arise("disk", "the disk is full")
        troubles.end("disk")
        troubles.end("disk")
    assert [entry["event"] for entry in said] == ["trouble", "trouble over"]
