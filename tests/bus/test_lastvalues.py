"""Followers of a stream's last values, and messages that get lost on their way."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.lastvalues import follow
from shared.bus.streams import FACTS
from shared.events import subjects
from tests.support.bus import Bus, eventually

ROUTE = subjects.resolution_fact("account", "route")


class Reader:
    """values: subject → what it was last told of it. snapshots: how many were whole."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.snapshots = 0

    def begin(self) -> None: ...

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        self.values[subject] = data

    def caught_up(self) -> None:
        self.snapshots += 1


@pytest.fixture
async def connection(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The resolver's; what carries the data b"lost" does not arrive the first time."""
    client = await bus.service("resolver")
    subscribe = client.subscribe
    lost: list[Msg] = []

    async def leaking(subject: str, *, cb: Callable[[Msg], Awaitable[None]], **options: Any) -> Any:
        async def hand_on(message: Msg) -> None:
            if message.data == b"lost" and not lost:
                lost.append(message)
            else:
                await cb(message)

        return await subscribe(subject, cb=hand_on, **options)

    monkeypatch.setattr(client, "subscribe", leaking)
    return client


async def test_the_last_message_before_the_stream_falls_silent_is_not_lost(bus: Bus, connection: Client) -> None:
    reader = Reader()
    following = asyncio.create_task(follow(connection, FACTS, subjects.FACT_RESOLUTIONS, reader))
    try:
        await eventually(lambda: reader.snapshots == 1)
        for data in (b"heard", b"lost"):
            await connection.jetstream().publish(ROUTE, data)
        await eventually(lambda: reader.values == {ROUTE: b"lost"})
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


class Sleeper(Reader):
    """Does not listen for a second at first."""

    def begin(self) -> None:
        time.sleep(1)


@pytest.mark.parametrize(
    "impatient_bus", [56 * 1024**2], indirect=True
)  # 32 are on their way, and some of a former try
async def test_the_bus_sends_no_more_than_it_keeps_for_a_client(impatient_bus: Bus) -> None:
    client, reader = await impatient_bus.service("resolver"), Sleeper()
    facts = [subjects.resolution_fact("account", f"route{number}") for number in range(80)]
    for fact in facts:
        await client.jetstream().publish(fact, bytes(1024**2), timeout=30)
    following = asyncio.create_task(follow(client, FACTS, subjects.FACT_RESOLUTIONS, reader))
    try:
        await eventually(lambda: reader.snapshots, within_s=60)
        assert set(reader.values) == set(facts)
        assert client.stats["reconnects"] == 0
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
