"""How often the kernel is asked what this host can carry, and what is said while it does not answer."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path

import pytest
import structlog.testing

from services.agent import candidacy
from services.agent.candidacy import LIMIT, CandidacyWatch
from services.agent.cells import counted
from services.agent.core.ha.candidacy import DeviceState
from services.agent.core.intervals import Network
from services.agent.core.reconcile.desired import desired
from services.agent.core.reconcile.steps import RULESET
from services.agent.core.routing.following import Answer, Entrance, OtherRule
from services.agent.situation import PassResult, Situation
from services.agent.state import statefile
from shared.events.documents import RouteDoc
from tests.support.bus import eventually
from tests.unit.agent import make

NOWHERE = Answer(refused="Network is unreachable", errno=errno.ENETUNREACH)
GONE = "the kernel has no way there (Network is unreachable); it was by eth1"


class Kernel:
    """Has a way to everything, or to nothing. asked: how many addresses each time."""

    def __init__(self) -> None:
        self.answer = Answer(device="eth1", table=254, prefix="10.0.0.0/8")
        self.asked: list[int] = []
        self.broken = False
        self.meanwhile: Callable[[], None] = lambda: None

    async def ask(self, addresses: Mapping[str, str], entrance: Entrance | None = None) -> dict[str, Answer]:
        self.asked.append(len(addresses))
        assert entrance == Entrance(device="wt0", sources={"v4": "100.64.128.0", "v6": "fd00:64:0:0:8000::"})
        if self.broken:
            raise OSError(5, "Input/output error")
        self.meanwhile()
        return dict.fromkeys(addresses, self.answer)

    def others(self) -> tuple[OtherRule, ...]:
        return ()

    def device(self) -> DeviceState:
        return "up"

    def networks(self) -> frozenset[Network]:
        return frozenset()

    def settings(self, paths: Iterable[str]) -> Mapping[str, str]:
        return dict.fromkeys(paths, "1")


class World:
    def __init__(self, state: Path) -> None:
        self.kernel = Kernel()
        self.state = state
        self.situation = Situation(make.local())
        self.watch = CandidacyWatch(self.situation, self.kernel, self.kernel, statefile.own_ways(state))

    @property
    def withdrawn(self) -> Mapping[str, str]:
        return self.situation.withdrawn.value

    def passed(self, *routes: RouteDoc, ruleset: str = "") -> None:
        """A pass of the loop left these routes to serve."""
        local, documents = make.local(), make.documents(routes=routes)
        errors = {RULESET: ruleset} if ruleset else {}
        wanted = desired(documents, local)
        self.situation.passed.set(PassResult(local=local, documents=documents, desired=wanted, errors=errors))

    def changed(self) -> None:
        self.situation.dirty.set(counted(self.situation.dirty.value, ("addresses",)))

    async def looked(self, times: int) -> None:
        await eventually(lambda: len(self.kernel.asked) == times)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    monkeypatch.setattr(candidacy, "APART_S", 0.01)
    made = World(tmp_path)
    running = asyncio.ensure_future(made.watch.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


LAN = make.served("lan", "10.9.0.0/24")


async def test_a_route_is_withdrawn_told_in_one_line_and_taken_back(world: World) -> None:
    with structlog.testing.capture_logs() as lines:
        world.passed(LAN)
        await eventually(lambda: "lan" in world.situation.carried.value)
        assert world.withdrawn == {}
        world.kernel.answer = NOWHERE
        world.changed()
        await eventually(lambda: world.withdrawn == {"lan": GONE})
        world.changed()
        await world.looked(3)
        world.kernel.answer = Answer(device="eth1", prefix="10.0.0.0/8")
        world.changed()
        await eventually(lambda: world.withdrawn == {})
    assert [line["event"] for line in lines] == [
        "this host does not carry a route",
        "this host carries a route again",
    ]
    assert lines[0]["reason"] == GONE


async def test_a_kernel_that_does_not_answer_withdraws_nothing_and_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidacy, "TRY_AGAIN_S", 0.01)
    world.kernel.broken = True
    world.passed(LAN)
    await eventually(lambda: len(world.kernel.asked) > 2)
    assert (world.withdrawn, world.situation.carried.value) == ({}, {})
    world.kernel.broken = False
    await eventually(lambda: "lan" in world.situation.carried.value)
    assert world.withdrawn == {}


async def test_routes_into_one_network_are_one_question_and_too_many_are_not_asked(world: World) -> None:
    world.passed(*(make.served(f"r{number}", "10.9.0.0/24") for number in range(50)))
    await world.looked(1)
    assert world.kernel.asked == [1]
    many = (make.served(f"r{number}", f"10.{number // 200}.{number % 200}.0/24") for number in range(LIMIT + 10))
    world.passed(*many)
    await world.looked(2)
    assert world.kernel.asked[1] == LIMIT


async def test_nobody_is_asked_for_a_host_that_serves_nothing(world: World) -> None:
    world.passed()
    world.changed()
    await asyncio.sleep(0)
    world.passed(LAN)
    await world.looked(1)


async def test_a_ruleset_that_fails_withdraws_and_one_that_is_taken_brings_back(world: World) -> None:
    world.passed(LAN, ruleset="no memory")
    await eventually(lambda: world.withdrawn == {"lan": "nftables does not take the table: no memory"})
    world.passed(LAN)
    await eventually(lambda: world.withdrawn == {})


async def test_the_ways_there_were_are_on_disk(world: World) -> None:
    world.passed(LAN)
    await eventually(lambda: statefile.own_ways(world.state).value == {"10.9.0.0/24": "eth1"})


async def test_a_route_that_goes_while_the_kernel_is_asked_ends_nothing(world: World) -> None:
    world.passed(LAN)
    await eventually(lambda: "lan" in world.situation.carried.value)
    world.kernel.answer = NOWHERE
    world.kernel.meanwhile = world.passed
    world.changed()
    await world.looked(2)
    world.kernel.meanwhile = lambda: None
    await eventually(lambda: world.situation.carried.value == {})
    assert world.withdrawn == {}
