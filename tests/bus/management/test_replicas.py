"""Whole replicas of management side by side, as wiring builds them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing

from services.management.settings import Settings
from services.management.wiring import run
from shared.bus.codec import decode, encode
from shared.errors import Taken
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import Enrolled, EnrolReply
from tests import builders
from tests.bus.management.hosts import Host
from tests.bus.management.plane import PlainBus
from tests.bus.management.processes import ANY_PORT
from tests.bus.management.replica import append
from tests.support.bus import LIMIT_S, eventually

KEY = "A1B2C3D4-0000-4000-8000-ABCDEFABCDEF"


@asynccontextmanager
async def whole_replica(bus: PlainBus, data_dir: Path) -> AsyncIterator[None]:
    """Serves within the block, and has stopped in an orderly way after it."""
    settings = Settings(bus=bus.url, credentials=bus.seeds, data_dir=data_dir, api=ANY_PORT)
    with structlog.testing.capture_logs() as logged:
        running = asyncio.create_task(run(settings))
        await eventually(lambda: running.done() or any(line["event"] == "serving" for line in logged), within_s=30)
    if running.done():
        await running
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def enrol(bus: PlainBus, name: str) -> EnrolReply:
    key_hash = subjects.setup_key_hash(KEY)
    host = await Host(bus.url, key_hash).connect(user=ENROL_USER, password=KEY)
    try:
        answer = await host.client.request(
            subjects.enrol(key_hash), encode(builders.enrol_request(name)), timeout=LIMIT_S
        )
    finally:
        await host.leave()
    return decode("reply", answer.data, EnrolReply)  # type: ignore[arg-type]


async def test_a_replica_that_stops_hands_over_without_a_refused_host(plain_bus: PlainBus, tmp_path: Path) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))
    replies: list[EnrolReply] = []
    stop = asyncio.Event()

    async def hosts_come(lane: int) -> None:
        while not stop.is_set():
            replies.append(await enrol(plain_bus, f"host-{lane}-{len(replies)}"))

    async with whole_replica(plain_bus, tmp_path / "stays"):
        coming = [asyncio.create_task(hosts_come(lane)) for lane in range(4)]
        for leaving in ("leaves", "leaves too"):
            async with whole_replica(plain_bus, tmp_path / leaving):
                before = len(replies)
                await eventually(lambda before=before: len(replies) > before + 20, within_s=30)  # type: ignore[misc]
        stop.set()
        await asyncio.gather(*coming)
    assert [reply for reply in replies if not isinstance(reply, Enrolled)] == []


async def test_a_second_replica_may_not_use_the_first_ones_folder(plain_bus: PlainBus, tmp_path: Path) -> None:
    async with whole_replica(plain_bus, tmp_path / "data"):
        with pytest.raises(Taken) as refusal:
            async with whole_replica(plain_bus, tmp_path / "data"):
                pass
        assert str(tmp_path / "data") in str(refusal.value)
