"""How often the kernel is asked whether it follows our routes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from services.agent.core.kernel import TABLE, RouteEntry
from services.agent.core.routing.following import Answer, OtherRule
from services.agent.loop import following
from services.agent.loop.following import LIMIT, Following
from tests.support.bus import eventually

ELSEWHERE = Answer(device="tun0", table=5000, prefix="0.0.0.0/0")


class Kernel:
    """Sends everything into the tunnel, or elsewhere. asked: how many prefixes each time."""

    def __init__(self) -> None:
        self.answer = Answer(device="wt0", table=TABLE, prefix="0.0.0.0/0")
        self.asked: list[int] = []
        self.broken = False

    async def ask(self, addresses: Mapping[str, str]) -> dict[str, Answer]:
        self.asked.append(len(addresses))
        if self.broken:
            raise OSError(5, "Input/output error")
        return dict.fromkeys(addresses, self.answer)

    def others(self) -> tuple[OtherRule, ...]:
        return (OtherRule(family="v4", priority=90, table=5000),)


class World:
    def __init__(self) -> None:
        self.kernel = Kernel()
        self.routes: dict[str, RouteEntry] = {}
        self.told: list[Mapping[str, str]] = []
        self.following = Following(self.kernel, lambda: self.routes, self.told.append)

    def want(self, count: int) -> None:
        prefixes = [f"10.{number // 256}.{number % 256}.0/24" for number in range(count)]
        self.routes = {prefix: RouteEntry(prefix=prefix, device="wt0") for prefix in prefixes}
        self.following.passed()


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
    world.want(3)
    await eventually(lambda: world.kernel.asked == [3])
    for _ in range(5):
        world.following.passed()
        await asyncio.sleep(0.02)
    assert world.kernel.asked == [3]
    world.want(4)
    await eventually(lambda: world.kernel.asked == [3, 4])
    assert world.told == []


async def test_what_others_change_is_told_once_and_taken_back(world: World) -> None:
    world.want(1)
    await eventually(lambda: world.kernel.asked == [1])
    world.kernel.answer = ELSEWHERE
    world.following.disturbed()
    reason = "rule 90 of another program goes before ours: table 5000 leads to tun0"
    await eventually(lambda: world.told == [{"10.0.0.0/24": reason}])
    world.following.disturbed()
    await eventually(lambda: len(world.kernel.asked) == 3)
    world.kernel.answer = Answer(device="wt0", table=TABLE, prefix="10.0.0.0/24")
    world.following.disturbed()
    await eventually(lambda: world.told == [{"10.0.0.0/24": reason}, {}])


async def test_a_storm_of_changes_is_few_questions_and_never_too_many_at_once(world: World) -> None:
    world.want(LIMIT + 100)
    for _ in range(1000):
        world.following.disturbed()
    await eventually(lambda: world.kernel.asked)
    await asyncio.sleep(0.03)
    assert world.kernel.asked == [LIMIT]


async def test_a_kernel_that_cannot_be_asked_is_asked_again(world: World) -> None:
    world.kernel.broken = True
    world.want(1)
    await eventually(lambda: len(world.kernel.asked) > 1)
    world.kernel.broken, world.kernel.answer = False, ELSEWHERE
    await eventually(lambda: len(world.told) == 1)
