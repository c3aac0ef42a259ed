"""Which signals may pass."""

import pytest

from services.signal.core.introductions import Introductions, Limits
from services.signal.errors import Withheld
from shared.events.subjects import BadSubject


def introductions(*, burst: int = 3, rate_per_s: float = 1.0) -> Introductions:
    return Introductions(Limits(max_bytes=100, burst=burst, rate_per_s=rate_per_s))


def test_a_signal_is_delivered_to_its_receiver_in_the_name_of_its_sender() -> None:
    assert introductions().delivery("signal.acc.from.alice.bob", 10, 0.0) == "signal.acc.to.bob.alice"


@pytest.mark.parametrize(
    "subject",
    [
        "signal.acc.from.alice",
        "signal.acc.from.alice.bob.carol",
        "signal.acc.from.alice.>",
        "signal.acc.from.alice.*",
        "signal.acc.from.al ice.bob",
        "signal..from.alice.bob",
        "feed.acc.from.alice.bob",
    ],
)
def test_what_is_no_subject_of_a_signal_goes_nowhere(subject: str) -> None:
    with pytest.raises(BadSubject):
        introductions().delivery(subject, 10, 0.0)


def outcome(rules: Introductions, sender: str, size: int, now: float) -> str:
    try:
        rules.delivery(f"signal.acc.from.{sender}.bob", size, now)
    except Withheld as refusal:
        return refusal.reason
    return "passed"


@pytest.mark.parametrize(("size", "expected"), [(0, "passed"), (100, "passed"), (101, "too-large")])
def test_a_signal_may_have_the_allowed_size_and_no_more(size: int, expected: str) -> None:
    assert outcome(introductions(), "alice", size, 0.0) == expected


def passed(rules: Introductions, sender: str, times: list[float]) -> list[bool]:
    outcomes = [outcome(rules, sender, 10, now) for now in times]
    assert set(outcomes) <= {"passed", "too-many"}
    return [each == "passed" for each in outcomes]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([0, 0, 0, 0], [True, True, True, False], id="a burst ends"),
        pytest.param([0, 0, 0, 0, 0.9, 1.0, 1.1], [True, True, True, False, False, True, False], id="one a second"),
        pytest.param([0, 2, 2, 2, 2], [True] * 4 + [False], id="a short rest does not save up more than a burst"),
        pytest.param(
            [0, 0, 0, 100, 100, 100, 100], [True] * 6 + [False], id="a long rest does not save up more than a burst"
        ),
    ],
)
def test_a_sender_may_send_a_burst_and_then_at_its_rate(times: list[float], expected: list[bool]) -> None:
    assert passed(introductions(), "alice", times) == expected


def test_a_sender_that_sends_too_much_costs_nobody_else() -> None:
    rules = introductions()
    assert passed(rules, "alice", [0.0] * 5) == [True, True, True, False, False]
    assert passed(rules, "carol", [0.0] * 3) == [True, True, True]


def test_a_signal_that_is_too_large_uses_nothing_up() -> None:
    rules = introductions()
    for _ in range(10):
        with pytest.raises(Withheld):
            rules.delivery("signal.acc.from.alice.bob", 101, 0.0)
    assert passed(rules, "alice", [0.0] * 4) == [True, True, True, False]


def test_senders_that_rest_are_forgotten() -> None:
    rules = introductions()
    for number in range(50):
        rules.delivery(f"signal.acc.from.peer{number}.bob", 10, float(number))
    assert rules.remembered == 3
