"""What management notices of a bus that takes no messages."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
import pytest

from services.management import buswatch
from services.management.errors import ChangesRefused
from services.management.troubles import Troubles
from shared.bus.streams import FACTS, FEED, LOG
from shared.events import subjects
from tests import builders
from tests.bus.management.plane import PlainBus
from tests.support.bus import Bus, eventually, freeze
from tests.support.smalldisk import SmallDisk, disk

__all__ = ["disk"]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buswatch, "LOOK_EVERY_S", 0.05)


@asynccontextmanager
async def watching(bus: Bus) -> AsyncIterator[Troubles]:
    troubles = Troubles()
    system = await bus.service("system")
    task = asyncio.create_task(buswatch.watch(bus.management, system, troubles))
    try:
        yield troubles
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_bus_whose_disk_is_full_is_a_trouble_with_its_own_words(disk: SmallDisk) -> None:
    bus = PlainBus(disk.root)
    await bus.start()
    try:
        async with watching(bus) as troubles:
            await asyncio.sleep(0.2)
            assert troubles.lines == (), "a bus that works is none"
            disk.fill()
            with pytest.raises(nats.errors.TimeoutError):
                await bus.management.jetstream().publish(subjects.log(builders.ACCOUNT), bytes(64 * 1024), timeout=0.5)
            [line] = await eventually(lambda: troubles.lines)
            assert "no space left on device" in line
            assert LOG in line
            with pytest.raises(ChangesRefused) as refused:
                troubles.require_changeable()
            assert refused.value.lines == (line,)
            disk.empty()
            await bus.restart()
            await eventually(lambda: not troubles.lines, within_s=20)
    finally:
        await bus.stop()


async def test_a_bus_that_is_away_is_waited_for(plain_bus: PlainBus) -> None:
    async with watching(plain_bus) as troubles:
        await plain_bus.server.stop()
        assert await eventually(lambda: troubles.lines) == (buswatch.AWAY,)
        troubles.require_changeable()
        await plain_bus.restart()
        await eventually(lambda: not troubles.lines, within_s=20)


async def test_a_bus_that_hangs_is_not_said_to_lack_other_buses(
    plain_bus: PlainBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buswatch, "ANSWER_WITHIN_S", 0.5)
    async with watching(plain_bus) as troubles:
        freeze(plain_bus.server.pid)
        try:
            lines = await eventually(lambda: len(troubles.lines) == 3 and troubles.lines)
        finally:
            os.kill(plain_bus.server.pid, signal.SIGCONT)
        assert all("does not answer: its bus hangs" in line for line in lines)


async def test_a_stream_that_is_not_there_is_named(bare_bus: Bus) -> None:
    async with watching(bare_bus) as troubles:
        lines = await eventually(lambda: len(troubles.lines) == 3 and troubles.lines)
        assert all(stream in " ".join(lines) for stream in (LOG, FACTS, FEED))
        await bare_bus.make_streams()
        await eventually(lambda: not troubles.lines)
