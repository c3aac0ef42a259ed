"""How long to wait before the next try."""

import pytest

from shared.backoff import delay_s


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
