"""How often the kernel is asked whether it follows our routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest
import structlog.testing

from services.agent.cells import Cell, counted
from services.agent.core.desired_state import Desired
from services.agent.core.kernel import TABLE, RouteEntry
from services.agent.core.reconcile.desired import Local
from services.agent.core.reconcile.steps import Kind
from services.agent.core.routing.following import Answer, Entrance, OtherRule
from services.agent.loop import following
from services.agent.loop.following import LIMIT, Following
from services.agent.ports import HostChange
from services.agent.situation import PassResult, Situation
from tests.support.bus import eventually

ELSEWHERE = Answer(device="tun0", table=5000, prefix="0.0.0.0/0")


class Kernel:
    """Sends everything into the tunnel, or elsewhere. asked: how many prefixes each time."""

    def __init__(self) -> None:
        self.answer = Answer(device="wt0", table=TABLE, prefix="0.0.0.0/0")
        self.asked: list[int] = []
        self.broken = False

    async def ask(self, addresses: Mapping[str, str], entrance: Entrance | None = None) -> dict[str, Answer]:
        self.asked.append(len(addresses))
        if self.broken:
            raise OSError(5, "Input/output error")
        return dict.fromkeys(addresses, self.answer)

    def others(self) -> tuple[OtherRule, ...]:
        return (OtherRule(family="v4", priority=90, table=5000),)


class Told(Cell[Mapping[str, str]]):
    """history: what was told, in order."""

    def __init__(self) -> None:
        super().__init__({})
        self.history: list[Mapping[str, str]] = []

    def set(self, value: Mapping[str, str]) -> None:
        self.history.append(value)
        super().set(value)


class World:
    def __init__(self) -> None:
        self.kernel = Kernel()
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.situation.unfollowed = self._told = Told()
        self.following = Following(self.situation, self.kernel)

    @property
    def told(self) -> list[Mapping[str, str]]:
        return self._told.history

    def passed(self, count: int) -> None:
        """A pass of the loop left so many routes."""
        prefixes = [f"10.{number // 256}.{number % 256}.0/24" for number in range(count)]
        routes = {prefix: RouteEntry(prefix=prefix, device="wt0") for prefix in prefixes}
        self.situation.passed.set(PassResult(local=self.situation.local, desired=Desired(routes=routes)))

    def mark_dirty(self, kind: Kind | HostChange = "ways") -> None:
        self.situation.dirty.set(counted(self.situation.dirty.value, [kind]))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(following, "APART_S", 0.01)
    world = World()
    running = asyncio.create_task(world.following.run())
    yield world
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_each_route_is_asked_about_once_after_a_change_and_not_again(world: World) -> None:
    world.passed(3)
    await eventually(lambda: world.kernel.asked == [3])
    for _ in range(5):
        world.passed(3)
        world.mark_dirty("ruleset")
        await asyncio.sleep(0.02)
    assert world.kernel.asked == [3]
    world.passed(4)
    await eventually(lambda: world.kernel.asked == [3, 4])
    assert world.told == []


async def test_what_others_change_is_told_once_and_taken_back(world: World) -> None:
    world.passed(1)
    await eventually(lambda: world.kernel.asked == [1])
    world.kernel.answer = ELSEWHERE
    world.mark_dirty()
    reason = "rule 90 of another program goes before ours: table 5000 leads to tun0"
    await eventually(lambda: world.told == [{"10.0.0.0/24": reason}])
    world.mark_dirty()
    await eventually(lambda: len(world.kernel.asked) == 3)
    world.kernel.answer = Answer(device="wt0", table=TABLE, prefix="10.0.0.0/24")
    world.mark_dirty()
    await eventually(lambda: world.told == [{"10.0.0.0/24": reason}, {}])


async def test_a_storm_of_changes_is_few_questions_and_never_too_many_at_once(world: World) -> None:
    world.passed(LIMIT + 100)
    for _ in range(1000):
        world.mark_dirty()
    await eventually(lambda: world.kernel.asked)
    await asyncio.sleep(0.03)
    assert world.kernel.asked == [LIMIT]


async def test_a_kernel_that_cannot_be_asked_is_asked_again(world: World) -> None:
    world.kernel.broken = True
    with structlog.testing.capture_logs() as said:
        world.passed(1)
        await eventually(lambda: len(world.kernel.asked) > 3)
        assert [entry["log_level"] for entry in said] == ["warning"], "it is told once a minute"
        world.kernel.broken, world.kernel.answer = False, ELSEWHERE
        await eventually(lambda: len(world.told) == 1)
        assert [entry["log_level"] for entry in said] == ["warning", "info", "warning"]
