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


@pytest.mark.parametrize("failing", ["drain", "leave", "both"])
@pytest.mark.parametrize("problem", [ValueError("broken"), asyncio.CancelledError()], ids=["error", "cancelled"])
async def test_the_kernel_is_cleaned_up_however_the_farewell_ends(
    failing: str, problem: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    life = Life({"link wt0": "busy"})

    async def fail(*_: float) -> None:
        raise problem

    drain, leave = (fail if failing in (one, "both") else None for one in ("drain", "leave"))
    running = asyncio.create_task(
        life.lifetime.run(life._work, drain or life._drain, leave or life._leave, life._clean_up)
    )
    life.has_clients = False
    life.lifetime.stop(5.0)
    assert await running == 1
    assert await life.lifetime.down(0.0) == {"link wt0": "busy"}
    assert life.done[-2:] == ["worked", "cleans up"]
    assert ("leaves" in life.done) == (failing == "drain")
    said = capsys.readouterr().out
    assert ("] clients were not waited for" in said) == (failing != "leave")
    assert ("] said no goodbye" in said) == (failing != "drain")


async def test_work_that_fails_while_clients_leave_removes_nothing() -> None:
    life = Life()
    over = asyncio.Event()

    async def fail() -> None:
        await over.wait()
        raise OSError("broken")

    running = asyncio.create_task(life.lifetime.run(fail, life._drain, life._leave, life._clean_up))
    life.lifetime.stop(5.0)
    await eventually(lambda: life.done == ["drains for 5.0 s"])
    over.set()
    with pytest.raises(OSError, match="broken"):
        await running
    assert life.done == ["drains for 5.0 s"]


async def test_work_that_fails_removes_nothing() -> None:
    life = Life()

    async def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await life.lifetime.run(fail, life._drain, life._leave, life._clean_up)
    assert life.done == []
