"""Reading a stream in order and without a gap, for ever.

A push consumer lives until the first sign that a message was missed: a gap in the sequence, a heartbeat that knows of
more messages than came, or silence. Then another consumer takes over where the reader wants it to start.

Two readings are raw, because what they need is not here. Pulling one batch after the other bounds what is under way by
its size and ends with the last message (agent/bus/catchup.py, management/projector/snapshot.py): nats-py's `fetch`
does that too, but loses a cancellation that meets a message, as asyncio.wait_for does before Python 3.12
(shared/tasks.py). And nats-py has no fields for priority groups (pinned.py).
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from shared.bus.patience import Patience, Trouble
from shared.bus.streams import ANSWER_WITHIN_S
from shared.tasks import end_if_cancelled

HEARTBEAT_S = 1.0
"""How often the server says that a consumer lives."""

SILENCE_S = 3 * HEARTBEAT_S
"""A consumer that says nothing for this long is made anew."""

LATE_S = 1.25 * HEARTBEAT_S
"""From here on a reconnect is looked for: a server that was restarted has forgotten the consumer."""

LOOK_EVERY_S = 0.25
FORGOTTEN_AFTER_S = 30.0
"""The server removes a consumer whose reader has died."""

Take = Callable[[Msg, int], None]
"""Takes the next message and its sequence in the stream. It may not block."""


def _nothing(_: int) -> None: ...


async def follow(
    connection: Client,
    stream: str,
    start: Callable[[], ConsumerConfig],
    take: Take,
    trouble: Trouble,
    *,
    begun: Callable[[int], None] = _nothing,
    settled: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Hand every message to `take`, once and in order, for ever. Waits for the stream to exist.

    start: deliver policy and filter of the next consumer; called for each. begun: is told that a consumer is made,
    and how many messages it will bring of what is stored. settled: returns when `take` can have more; the server holds
    back the rest of a long stream meanwhile. trouble: told while the stream cannot be read.
    """

    async def read() -> None:
        await _Reading(connection, take, settled).run(stream, start(), trouble, begun)

    await Patience(trouble).keep(read)


class _Reading:
    """One consumer's life."""

    def __init__(self, connection: Client, take: Take, settled: Callable[[], Awaitable[None]] | None) -> None:
        self._connection = connection
        self._take = take
        self._settled = settled
        self._received = 0
        self._reconnects = connection.stats["reconnects"]
        # A queue of our own: nats-py's next_msg loses a cancellation that meets a message.
        self._arrived = asyncio.Queue[Msg]()

    async def run(self, stream: str, start: ConsumerConfig, trouble: Trouble, begun: Callable[[int], None]) -> None:
        """Return at the first sign that a message was missed."""
        inbox = self._connection.new_inbox()
        # No limits of the client's: flow control bounds what is under way, and dropping would be a gap.
        subscription = await self._connection.subscribe(
            inbox, cb=self._arrived.put, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            jetstream = self._connection.jetstream(timeout=ANSWER_WITHIN_S)
            consumer = await jetstream.add_consumer(stream, _complete(start, inbox))
            trouble.over()
            begun(consumer.num_pending or 0)
            while (message := await self._next()) is not None and await self._in_order(message):
                end_if_cancelled()
        finally:
            if not self._connection.is_closed:
                await subscription.unsubscribe()

    async def _next(self) -> Msg | None:
        """The next message; None when the consumer seems to be gone."""
        if not self._arrived.empty():
            return self._arrived.get_nowait()
        clock = asyncio.get_running_loop().time
        heard_at, wait_s = clock(), LATE_S
        while True:
            end_if_cancelled()
            try:
                async with asyncio.timeout(wait_s):
                    return await self._arrived.get()
            except TimeoutError:
                if clock() - heard_at > SILENCE_S or self._connection.stats["reconnects"] != self._reconnects:
                    return None
            wait_s = LOOK_EVERY_S

    async def _in_order(self, message: Msg) -> bool:
        """Take the message, or answer the server's; False when one before it was missed."""
        if message.headers and "Status" in message.headers:
            if int(message.headers.get("Nats-Last-Consumer", self._received)) != self._received:
                return False
            if permission := message.reply or message.headers.get("Nats-Consumer-Stalled"):
                await self._permit(permission)
            return True
        at = message.metadata.sequence
        if at.consumer != self._received + 1:
            return False
        self._received += 1
        self._take(message, at.stream)
        return True

    async def _permit(self, subject: str) -> None:
        """Answer flow control: all before was taken, and there is room for more."""
        if self._settled is not None:
            await self._settled()
        await self._connection.publish(subject)


def _complete(start: ConsumerConfig, inbox: str) -> ConsumerConfig:
    return start.evolve(
        name=f"ordered-{secrets.token_hex(8)}",
        deliver_subject=inbox,
        ack_policy=AckPolicy.NONE,
        flow_control=True,
        idle_heartbeat=HEARTBEAT_S,
        inactive_threshold=FORGOTTEN_AFTER_S,
        num_replicas=1,
        mem_storage=True,
    )
