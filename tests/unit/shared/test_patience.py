"""What fails for a while is done again, with waits between that grow."""

import asyncio

import nats.errors
import pytest
from structlog.testing import capture_logs

from shared import backoff
from shared.bus.patience import Patience, Trouble

BAD, GOOD = "bad, going on trying", "good again"


def patience() -> Patience:
    return Patience(Trouble("bad", "good again"), every_s=0.0)


async def test_what_fails_for_a_while_is_done_in_the_end_and_said_once_each_way() -> None:
    failures = iter((nats.errors.NoServersError(), TimeoutError("late"), TimeoutError()))
    heard: list[Exception] = []

    async def attempt() -> str:
        for failure in failures:
            raise failure
        return "here"

    with capture_logs() as lines:
        trying = Patience(Trouble("bad", "good again"), every_s=0.0, heard=heard.append)
        assert await trying.done(attempt) == "here"
    assert [line["event"] for line in lines] == [BAD, GOOD]
    assert [type(problem) for problem in heard] == [nats.errors.NoServersError, TimeoutError, TimeoutError]
    assert trying.failures == 0


async def test_what_does_not_pass_is_raised() -> None:
    async def attempt() -> None:
        raise ZeroDivisionError

    with capture_logs() as lines, pytest.raises(ZeroDivisionError):
        await patience().done(attempt)
    with capture_logs() as more, pytest.raises(ZeroDivisionError):
        await patience().keep(attempt)
    assert lines == more == []


async def test_work_is_begun_again_however_it_ended() -> None:
    begun, enough = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 5:
            enough.set()
        if begun % 2:
            raise TimeoutError

    keeping = asyncio.create_task(patience().keep(work))
    await asyncio.wait_for(enough.wait(), 5)
    keeping.cancel()
    await asyncio.wait([keeping], timeout=5)
    assert keeping.cancelled()


@pytest.mark.parametrize("way", ["done", "keep"])
async def test_patience_ends_though_the_cancellation_met_a_failure(way: str) -> None:
    """As asyncio.wait_for before Python 3.12 does it, which nats-py waits with."""
    waiting, tries = asyncio.Event(), 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise TimeoutError from None

    trying = patience()
    running = asyncio.ensure_future(trying.done(attempt) if way == "done" else trying.keep(attempt))
    await waiting.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    assert tries == 1


def test_waits_grow_with_the_failures_in_a_row() -> None:
    trying = Patience(Trouble("bad"))
    waits = [trying.next_wait_s() for _ in range(8)]
    longest = [min(backoff.LIMIT_S, backoff.FIRST_S * 2**number) for number in range(8)]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    trying.worked()
    assert trying.next_wait_s() <= backoff.FIRST_S


def test_a_trouble_that_is_told_at_once_does_not_wait_for_its_minute() -> None:
    trouble = Trouble("bad")
    with capture_logs() as lines:
        for at_once in (False, False, True):
            trouble.tell("why", at_once=at_once)
        trouble.over()
    assert [(line["event"], line["problem"]) for line in lines] == [(BAD, "why"), (BAD, "why")]
