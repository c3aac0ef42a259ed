"""Loops that end when they are told to."""

import asyncio

from shared.tasks import end_if_cancelled, unswallowed


async def test_a_loop_ends_though_a_cancellation_was_swallowed() -> None:
    rounds = 0
    waiting = asyncio.Event()

    async def loop() -> None:
        nonlocal rounds
        while True:
            end_if_cancelled()
            rounds += 1
            try:
                waiting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as wait_for does when its result comes at the same moment
                continue

    running = asyncio.create_task(loop())
    await waiting.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
    assert rounds == 1


async def test_a_task_that_was_not_cancelled_goes_on() -> None:
    end_if_cancelled()


async def test_a_cancellation_that_was_swallowed_with_a_result_is_raised() -> None:
    waiting, answered = asyncio.Event(), asyncio.Event()

    async def answer() -> str:
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as wait_for does when its result comes at the same moment
            answered.set()
        return "answer"

    running = asyncio.create_task(unswallowed(answer()))
    await waiting.wait()
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert answered.is_set()
    assert running.cancelled()


async def test_what_tidies_up_after_a_cancellation_gets_its_result() -> None:
    async def tidying() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await unswallowed(asyncio.sleep(0, "tidied"))
        return ""

    running = asyncio.create_task(tidying())
    await asyncio.sleep(0)
    running.cancel()
    assert await running == "tidied"
