"""When what failed is tried again."""

import pytest

from services.agent.core.reconcile.retry import Retries, delay_s


@pytest.mark.parametrize(
    ("failures", "chance", "delay"),
    [
        (1, 0.0, 0.5),
        (2, 0.0, 1.0),
        (3, 0.0, 2.0),
        (5, 0.0, 8.0),
        (6, 0.0, 15.0),
        (5000, 0.0, 15.0),
        (1, 0.999, 0.25025),
    ],
)
def test_the_wait_doubles_from_half_a_second_to_fifteen_and_chance_takes_up_to_half(
    failures: int, chance: float, delay: float
) -> None:
    assert delay_s(failures, chance) == pytest.approx(delay)


def test_each_entry_waits_for_itself_and_starts_over_after_a_success() -> None:
    retries = Retries[str]()
    assert retries.next_deadline() is None
    assert retries.failed("a", 10.0, 0.0) == 10.5
    assert retries.failed("a", 10.5, 0.0) == 11.5
    assert retries.failed("b", 11.0, 0.0) == 11.5
    assert [retries.waits(key, 11.4) for key in "abc"] == [True, True, False]
    assert [retries.waits(key, 11.5) for key in "abc"] == [False, False, False]
    retries.succeeded("a")
    assert not retries.waits("a", 11.4)
    assert retries.next_deadline() == 11.5
    assert retries.failed("a", 20.0, 0.0) == 20.5
