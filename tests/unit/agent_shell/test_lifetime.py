"""The agent's life: who is waited for, what comes after what, and what is said at the end."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from services.agent.lifetime import Lifetime
from tests.support.bus import eventually


class Life:
    """What an agent does, noted in order."""

    def __init__(self, left: Mapping[str, str] | None = None) -> None:
        self.lifetime = Lifetime()
        self.done: list[str] = []
        self.has_clients = True
        self._left = left or {}

    def run(self) -> asyncio.Task[int]:
        return asyncio.create_task(self.lifetime.run(self._work, self._drain, self._leave, self._clean_up))

    async def _work(self) -> None:
        self.done.append("works")
        try:
            await asyncio.Event().wait()
        finally:
            self.done.append("worked")

    async def _drain(self, within_s: float) -> None:
        self.done.append(f"drains for {within_s} s")
        while self.has_clients:
            await asyncio.sleep(0)

    async def _leave(self) -> None:
        self.done.append("leaves")

    async def _clean_up(self) -> Mapping[str, str]:
        self.done.append("cleans up")
        return self._left


async def test_it_leaves_while_the_work_still_goes_on_and_then_cleans_up() -> None:
    life = Life()
    running = life.run()
    await eventually(lambda: life.done == ["works"])
    life.lifetime.stop()
    assert await running == 0
    assert life.done == ["works", "leaves", "worked", "cleans up"]


async def test_it_leaves_once_its_clients_have() -> None:
    life = Life()
    running = life.run()
    down = asyncio.create_task(life.lifetime.down(5.0))
    await eventually(lambda: life.done == ["works", "drains for 5.0 s"])
    life.has_clients = False
    assert await running == 0
    assert await down == {}
    assert life.done == ["works", "drains for 5.0 s", "leaves", "worked", "cleans up"]


@pytest.mark.parametrize("hurry", [Lifetime.signalled, Lifetime.stop])
async def test_a_second_signal_and_one_who_wants_it_down_now_end_the_waiting(
    hurry: Callable[[Lifetime], None],
) -> None:
    life = Life()
    running = life.run()
    life.lifetime.signalled()
    await eventually(lambda: life.done == ["works", "drains for 8.0 s"])
    life.lifetime.stop(20.0)
    hurry(life.lifetime)
    assert await running == 0
    assert life.done == ["works", "drains for 8.0 s", "leaves", "worked", "cleans up"]


async def test_whoever_tells_it_to_stop_hears_what_could_not_be_removed() -> None:
    life = Life({"link wt0": "Device or resource busy"})
    running = life.run()
    told = await asyncio.gather(life.lifetime.down(0.0), life.lifetime.down(0.0))
    assert [*told] == [{"link wt0": "Device or resource busy"}] * 2
    assert await running == 1


async def test_one_who_asked_and_went_away_does_not_keep_others_from_hearing() -> None:
    life = Life()
    gone = asyncio.create_task(life.lifetime.down(0.0))
    await asyncio.sleep(0)
    gone.cancel()
    other = asyncio.create_task(life.lifetime.down(0.0))
    assert await life.run() == 0
    assert await other == {}


async def test_work_that_fails_removes_nothing() -> None:
    life = Life()

    async def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await life.lifetime.run(fail, life._drain, life._leave, life._clean_up)
    assert life.done == []
