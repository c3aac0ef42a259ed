"""What a routing peer says of its candidacy, when, and how often."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from services.agent.bus import candidacy
from services.agent.bus.candidacy import CandidacyReporter
from services.agent.core.ha.standing import Carried
from services.agent.situation import Bus, Situation
from shared.bus.codec import decode
from shared.events.documents import Withdrawn
from shared.events.facts import CandidacyFact
from tests.support.bus import eventually
from tests.unit.agent import make

SUBJECT = "fact.acc.peer.gw.candidacy"


class World:
    """said: the facts that left. bus: whether there is a connection."""

    def __init__(self) -> None:
        self.situation = Situation(make.local())
        self.said: list[CandidacyFact] = []
        self.bus = True
        self.reporter = CandidacyReporter(self.situation, self._publish, "acc", "gw", 7)

    async def _publish(self, subject: str, payload: bytes) -> bool:
        assert subject == SUBJECT
        if self.bus:
            self.said.append(decode(subject, payload, CandidacyFact))
        return self.bus

    def session(self, number: int) -> None:
        self.situation.bus.set(Bus(standing="connected", sessions=number))

    def carries(self, **reasons: str) -> None:
        """What is said of each route, "" for one that is carried."""
        self.situation.withdrawn.set({route_id: reason for route_id, reason in reasons.items() if reason})
        self.situation.carried.set({route_id: Carried(reason=reason) for route_id, reason in reasons.items()})

    async def told(self, number: int) -> CandidacyFact:
        """The fact with that number, without its time."""
        await eventually(lambda: [one.number for one in self.said][-1:] == [number])
        assert self.said[-1].at > 0.0
        return replace(self.said[-1], at=0.0)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(candidacy, "APART_S", 0.01)
    made = World()
    running = asyncio.ensure_future(made.reporter.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def fact(
    number: int, *withdrawn: tuple[str, str], draining: bool = False, holds: tuple[str, ...] = ()
) -> CandidacyFact:
    return CandidacyFact(
        peer_id="gw",
        epoch=7,
        number=number,
        draining=draining,
        withdrawn=tuple(Withdrawn(*one) for one in withdrawn),
        holds=holds,
    )


async def test_each_change_is_a_fact_with_the_next_number(world: World) -> None:
    world.session(1)
    world.carries(r1="", r2="")
    assert await world.told(1) == fact(1)
    world.carries(r2="no way", r1="no way")
    assert await world.told(2) == fact(2, ("r1", "no way"), ("r2", "no way"))
    world.situation.held.set(frozenset({"r3", "r1"}))
    assert await world.told(3) == fact(3, ("r1", "no way"), ("r2", "no way"), holds=("r1", "r3"))
    world.situation.draining.set(True)
    assert (await world.told(4)).draining


async def test_of_changes_that_come_faster_than_facts_may_the_newest_is_said(world: World) -> None:
    world.session(1)
    world.carries(r1="")
    await world.told(1)
    for number in range(50):
        world.carries(r1=f"reason {number}")
    assert await world.told(2) == fact(2, ("r1", "reason 49"))


async def test_what_is_not_news_is_said_once_in_a_session(world: World) -> None:
    world.session(1)
    world.carries(r1="no way")
    await world.told(1)
    world.carries(r1="no way")
    world.session(1)
    world.session(2)
    assert await world.told(2) == fact(2, ("r1", "no way"))
    assert len(world.said) == 2


async def test_what_was_not_heard_is_said_again(world: World) -> None:
    world.bus = False
    world.carries(r1="no way")
    await asyncio.sleep(0)
    world.bus = True
    world.session(1)
    await eventually(lambda: bool(world.said))
    assert world.said[0].withdrawn == (Withdrawn("r1", "no way"),)


async def test_a_host_that_serves_nothing_says_so_only_after_it_served(world: World) -> None:
    world.session(1)
    world.situation.draining.set(True)
    await asyncio.sleep(0)
    world.situation.draining.set(False)
    world.carries(r1="no way")
    assert await world.told(1) == fact(1, ("r1", "no way"))
    world.carries()
    assert await world.told(2) == fact(2)
