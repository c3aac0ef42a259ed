"""What the kernel refused, and when it is asked again."""

from services.agent.loop.failures import Failures
from services.agent.loop.kernel import WAITS
from shared.backoff import FIRST_S

ROUTES = {("route", f"10.0.{number}.0/24"): "dev wt0" for number in range(50)}
REFUSED = dict.fromkeys(ROUTES, "Network is down")


def test_what_failed_together_is_tried_together_so_that_many_failures_are_one_more_pass() -> None:
    failures = Failures()
    now = 10.0
    for _ in range(4):
        failures.note(ROUTES, REFUSED, now)
        assert all(failures.reason(entry, value, now) == "Network is down" for entry, value in ROUTES.items())
        due = failures.next_deadline()
        assert due is not None
        assert due > now
        now = due
        assert not any(failures.reason(entry, value, now) for entry, value in ROUTES.items())


def test_an_entry_with_another_value_is_tried_at_once_and_one_that_only_waits_has_not_failed() -> None:
    failures = Failures()
    failures.note(ROUTES, dict.fromkeys(ROUTES, WAITS), 10.0)
    assert failures.next_deadline() is None
    failures.note(ROUTES, REFUSED, 10.0)
    assert failures.reason(("route", "10.0.0.0/24"), "unreachable", 10.0) == ""


def test_what_worked_in_between_has_failed_for_the_first_time_when_it_fails_again() -> None:
    """Also nothing is due any more: a loop that is woken by a past deadline would go round without a pause."""
    failures = Failures()
    now = 10.0
    for _ in range(6):
        failures.note(ROUTES, REFUSED, now)
        now = failures.next_deadline() or now
    failures.note(ROUTES, {}, now)
    assert failures.next_deadline() is None
    assert not any(failures.reason(entry, value, now) for entry, value in ROUTES.items())
    failures.note(ROUTES, REFUSED, now)
    due = failures.next_deadline()
    assert due is not None
    assert now < due <= now + FIRST_S
