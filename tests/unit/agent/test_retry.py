"""When what failed is tried again."""

from services.agent.core.reconcile.retry import Retries


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
