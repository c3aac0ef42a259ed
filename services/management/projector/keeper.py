"""Keeps the pin in a thread of its own: long work in the main thread must not look like the end of this replica."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.projector.succession import Connection, connection_of
from shared.bus.pinned import PinnedConsumer

HUNG_S = 10.0
"""The pin is not kept for a main thread that has not run for this long."""

ALIVE_EVERY_S = 0.5

Dial = Callable[[], Awaitable[Client]]
"""Gives a connection with management's rights, for the event loop it is called in."""


class Delivery(NamedTuple):
    """A message of LOG that has to be acknowledged at `reply`. pin: under which it came."""

    sequence: int
    reply: str
    pin: str

    async def acknowledge(self, client: Client) -> None:
        await client.publish(self.reply)

    async def again(self, client: Client, after_s: float) -> None:
        """Have the bus deliver the message once more, to the replica that has the pin then."""
        delay = b" " + msgspec.json.encode({"delay": round(after_s * 1e9)}) if after_s else b""
        await client.publish(self.reply, b"-NAK" + delay)


class PinKeeper:
    """A PinnedConsumer on a connection and in a thread of its own; on_message and on_lost are called in the event loop
    that `run` runs in."""

    def __init__(
        self,
        dial: Dial,
        stream: str,
        name: str,
        filter_subject: str,
        *,
        on_message: Callable[[Delivery], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._dial = dial
        self._consumer = (stream, name, filter_subject)
        self._on_message = on_message
        self._on_lost = on_lost
        self._alive_at = time.monotonic()
        self._client: Client | None = None

    @property
    def connection(self) -> Connection:
        """The one that the pin is kept on, an empty one while there is none."""
        return connection_of(self._client) if self._client is not None else Connection()

    async def run(self) -> None:
        """Until cancelled; then the pin is given back before it returns."""
        main = asyncio.get_running_loop()
        started: asyncio.Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = main.create_future()
        ended = asyncio.Event()

        async def keep() -> None:
            this = asyncio.current_task()
            assert this is not None
            main.call_soon_threadsafe(started.set_result, (asyncio.get_running_loop(), this))
            await self._keep(main)

        def thread() -> None:
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    asyncio.run(keep())
            finally:
                main.call_soon_threadsafe(ended.set)

        threading.Thread(target=thread, name="pin", daemon=True).start()
        try:
            await self._say_alive(ended)
        finally:
            over = asyncio.create_task(ended.wait())
            either: set[asyncio.Future[Any]] = {started, over}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if started.done():  # else it ended before it began, without a descriptor for its loop
                loop, task = started.result()
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    loop.call_soon_threadsafe(task.cancel)
            await over

    async def _say_alive(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            self._alive_at = time.monotonic()
            await asyncio.sleep(ALIVE_EVERY_S)
        raise RuntimeError("the thread that keeps the pin has ended")

    async def _keep(self, main: asyncio.AbstractEventLoop) -> None:
        """In the thread."""

        def arrived(message: Msg, pin: str) -> None:
            delivery = Delivery(message.metadata.sequence.stream, message.reply, pin)
            main.call_soon_threadsafe(self._on_message, delivery)

        def lost() -> None:
            main.call_soon_threadsafe(self._on_lost)

        self._client = client = await self._dial()
        try:
            await PinnedConsumer(
                client,
                *self._consumer,
                on_message=arrived,
                on_lost=lost,
                wanted=lambda: time.monotonic() - self._alive_at < HUNG_S,
            ).run()
        finally:
            self._client = None
            await client.close()
