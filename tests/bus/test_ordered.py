"""A stream that is read in order, whatever gets lost on its way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from shared.bus import ordered
from shared.bus.patience import Trouble
from shared.bus.streams import LOG
from shared.events import subjects
from tests.support.bus import Bus, eventually

COUNT = 6


class Following:
    """Follows LOG. taken: sequences in the order they came. begun: how many consumers were made."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self.taken: list[int] = []
        self.begun = 0

    def _start(self) -> ConsumerConfig:
        self.begun += 1
        return ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(self.taken, default=0) + 1
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        def take(_: Msg, sequence: int) -> None:
            self.taken.append(sequence)

        task = asyncio.create_task(ordered.follow(self._connection, LOG, self._start, take, Trouble("log")))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task], timeout=5)
        assert task.cancelled()


async def write(bus: Bus, *data: bytes) -> None:
    for each in data:
        await bus.management.jetstream().publish(subjects.log("account"), each)


@pytest.mark.parametrize("lost", range(COUNT))
async def test_a_message_that_is_lost_comes_again_before_what_follows_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    client = await bus.service("management")
    subscribe, missing = client.subscribe, {str(lost).encode()}

    async def leaking(subject: str, *, cb: Callable[[Msg], Awaitable[None]], **options: Any) -> Any:
        async def hand_on(message: Msg) -> None:
            if message.data in missing:
                missing.clear()
            else:
                await cb(message)

        return await subscribe(subject, cb=hand_on, **options)

    monkeypatch.setattr(client, "subscribe", leaking)
    following = Following(client)
    async with following.running():
        await eventually(lambda: following.begun)
        await write(bus, *(str(number).encode() for number in range(COUNT)))
        await eventually(lambda: len(following.taken) == COUNT)
    assert following.taken == list(range(1, COUNT + 1))
    assert following.begun == 2


async def test_a_server_that_was_restarted_is_read_on_where_it_was_left(bus: Bus) -> None:
    following = Following(await bus.service("management"))
    async with following.running():
        await write(bus, b"before")
        await eventually(lambda: following.taken == [1])
        await bus.restart()
        await eventually(lambda: bus.management.is_connected)
        await write(bus, b"after")
        await eventually(lambda: following.taken == [1, 2])
