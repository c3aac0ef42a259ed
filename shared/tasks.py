"""What Python 3.11's asyncio does not do by itself."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def end_if_cancelled() -> None:
    """Raise CancelledError when the running task is to end, even if it was not told.

    Before Python 3.12 `asyncio.wait_for` swallows a cancellation that arrives together with its result, and nats-py
    waits that way for every answer. A loop that runs for ever asks here once each time round.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def unswallowed(work: Awaitable[T]) -> T:
    """What the work gives; raises CancelledError when the running task was cancelled meanwhile and the work hid it."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


async def first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends or fails; the others are cancelled, and have ended on return."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
