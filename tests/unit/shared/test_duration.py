"""Durations as people write them."""

import pytest

from shared.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        (" 7 D ", 604_800),
    ],
)
def test_durations_have_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1.5d", "1y", "1d2h", "ten", "-1d", "-1", "1" * 13])
def test_what_is_no_duration_gets_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="as in 30d"):
        parse_duration(text)
