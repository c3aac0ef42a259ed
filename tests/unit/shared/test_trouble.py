"""Trouble is said now and then while it lasts, and once that it is over."""

from structlog.testing import capture_logs

from shared.bus.patience import REPORT_EVERY_S, Trouble


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(*steps: str | float, quiet_s: float = 0.0) -> list[tuple[str, float | None]]:
    """What is said, and after how long it is over; a number lets so many seconds pass."""
    clock = Clock()
    trouble = Trouble("bad", "good again", quiet_s=quiet_s, clock=clock)
    with capture_logs() as lines:
        for step in steps:
            match step:
                case "tell":
                    trouble.tell(OSError("why"))
                case "begin":
                    trouble.begin()
                case "over":
                    trouble.over()
                case float():
                    clock.now += step
    return [(line["event"], line.get("after_s")) for line in lines]


BAD, GOOD = "bad, going on trying", "good again"


def test_the_end_is_said_once_with_how_long_it_took() -> None:
    assert heard("tell", 3.0, "tell", 4.5, "over", 9.0, "over") == [(BAD, None), (GOOD, 7.5)]


def test_what_lasts_is_said_once_a_minute() -> None:
    minute = ("tell", 20.0, "tell", 20.0, "tell", REPORT_EVERY_S - 40.0)
    assert heard(*minute, *minute, "over") == [(BAD, None), (BAD, None), (GOOD, 2 * REPORT_EVERY_S)]


def test_what_was_not_said_to_be_bad_is_not_said_to_be_good_again() -> None:
    assert heard("over") == []
    assert heard("begin", 3.0, "over") == []
    assert heard("tell", 3.0, "tell", "over", quiet_s=10.0) == []
    assert heard("tell", 11.0, "tell", "over", quiet_s=10.0) == [(BAD, None), (GOOD, 11.0)]


def test_a_complaint_of_long_ago_is_no_part_of_it() -> None:
    assert heard("tell", 500.0, "begin", 2.0, "tell", 1.0, "over") == [(BAD, None), (BAD, None), (GOOD, 3.0)]
