"""Whether a routing peer waits before it stops, and for how long."""

import asyncio
import time
from collections.abc import Callable

import pytest

from services.agent import draining
from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents
from services.agent.core.kernel import Count, RuleName
from services.agent.core.reconcile.desired import desired
from services.agent.draining import Draining
from services.agent.situation import Bus, PassResult, Situation
from shared.events.documents import RouteDoc
from tests.unit.agent import make
from tests.unit.agent.make import served

BOTH = served("lan", by=("me", "other"))


class Gateway:
    """A routing peer with clients. hears: called at each look at the counters, and says what came by now."""

    def __init__(self, *routes: RouteDoc, standing: str = "connected") -> None:
        self.packets = 0
        self.looks = 0
        self.hears: Callable[[Gateway], None] = lambda _: None
        self.situation = Situation(make.local())
        documents: Documents = make.documents(make.me(), [make.peer("alice")], routes=routes)
        found: Desired = desired(documents, make.local())
        self.situation.passed.set(PassResult(documents=documents, local=make.local(), desired=found))
        self.situation.bus.set(Bus(standing=standing))  # type: ignore[arg-type]
        assert found.ruleset is not None
        self._rules: list[RuleName] = [
            (chain.name, rule.key) for chain in found.ruleset.chains for rule in chain.rules if rule.counts
        ]

    async def counts(self) -> dict[RuleName, Count]:
        self.looks += 1
        self.hears(self)
        return {(chain, key): Count(self.packets, 0) for chain, key in self._rules if chain.startswith("permits_")}

    async def drain(self, within_s: float) -> float:
        """How long it waited."""
        began = time.monotonic()
        await Draining(self.situation, self.counts).run(within_s)
        return time.monotonic() - began


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "AT_LEAST_S", 0.1)
    monkeypatch.setattr(draining, "QUIET_S", 0.1)
    monkeypatch.setattr(draining, "LOOK_EVERY_S", 0.001)


@pytest.mark.parametrize(
    ("gateway", "why"),
    [
        (Gateway(), "it serves nothing"),
        (Gateway(make.route("lan", by=("other", "third"))), "it is a client there"),
        (Gateway(BOTH, standing="connecting"), "nobody hears it"),
        (Gateway(served("lan", alone=True)), "no other peer and no other route leads there"),
    ],
)
async def test_nobody_is_waited_for_where_clients_have_nowhere_to_go(gateway: Gateway, why: str) -> None:
    await gateway.drain(60.0)
    assert (gateway.situation.draining.value, gateway.looks) == (False, 0), why


@pytest.mark.parametrize(
    "gateway",
    [
        Gateway(BOTH),
        Gateway(served("lan", by=("me", "other"), alone=True)),
        Gateway(served("lan", alone=False)),
        Gateway(served("db", "10.2.0.0/16", alone=True), BOTH),
    ],
)
async def test_it_is_said_and_waited_until_nothing_comes_any_more_g6(gateway: Gateway) -> None:
    def until_it_was_said(gateway: Gateway) -> None:
        gateway.packets += gateway.looks < 20 and gateway.situation.draining.value

    gateway.hears = until_it_was_said
    await gateway.drain(60.0)
    assert gateway.situation.draining.value
    assert gateway.packets > 0


async def test_clients_that_do_not_leave_are_waited_for_no_longer_than_asked() -> None:
    gateway = Gateway(BOTH)

    def goes_on(gateway: Gateway) -> None:
        gateway.packets += 1

    gateway.hears = goes_on
    waited_s = await gateway.drain(0.3)
    assert waited_s >= 0.3


async def test_whoever_does_not_want_to_wait_ends_it() -> None:
    gateway = Gateway(BOTH)
    waiting = asyncio.create_task(gateway.drain(60.0))
    while not gateway.looks:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_kernel_that_does_not_count_ends_no_stop() -> None:
    gateway = Gateway(BOTH)

    def loses_its_answer(gateway: Gateway) -> None:
        raise TimeoutError("timed out")

    gateway.hears = loses_its_answer
    assert await gateway.drain(60.0) < 60.0
    assert gateway.situation.draining.value
