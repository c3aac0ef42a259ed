"""Reading the log in order, from any sequence on, without a gap and for ever."""

import asyncio
import contextlib
import secrets
import time
from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from shared.bus.patience import Patience, Trouble
from shared.bus.streams import ANSWER_WITHIN_S, LOG
from shared.tasks import end_if_cancelled

HEARTBEAT_S = 1.0
"""How often the server says that the consumer lives; three missing ones and it is made anew."""

LOOK_EVERY_S = 0.5
"""How often a reconnect is looked for: a server that was restarted has forgotten the consumer."""


class Reader(Protocol):
    """Takes the log's messages."""

    @property
    def sequence(self) -> int:
        """LOG sequence of the last message it took, 0 before the first."""

    def take(self, message: Msg, sequence: int) -> None:
        """The next message. It must be quick and raises nothing."""

    async def settled(self) -> None:
        """Return when it can take more; the server holds back the rest of a long log meanwhile."""


async def follow(connection: Client, reader: Reader) -> None:
    """Hand every message after `reader.sequence` to it, once and in order, for ever."""
    trouble = Trouble("log not readable", "the log is readable again")
    await Patience(trouble).keep(lambda: _Reading(connection, reader, trouble).run())


class _Reading:
    """One consumer's life: it ends at the first sign that something was missed."""

    def __init__(self, connection: Client, reader: Reader, trouble: Trouble) -> None:
        self._connection = connection
        self._reader = reader
        self._trouble = trouble
        self._received = 0
        self._heard_at = time.monotonic()
        self._lost = asyncio.Event()

    async def run(self) -> None:
        inbox = self._connection.new_inbox()
        # No limits of the client's: flow control bounds what is under way, and dropping would be a gap.
        subscription = await self._connection.subscribe(
            inbox, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            reconnects = self._connection.stats["reconnects"]
            jetstream = self._connection.jetstream(timeout=ANSWER_WITHIN_S)
            await jetstream.add_consumer(LOG, self._consumer(inbox))
            self._trouble.over()
            self._heard_at = time.monotonic()
            while self._connection.stats["reconnects"] == reconnects and not self._silent():
                end_if_cancelled()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._lost.wait()
                    return
        finally:
            self._lost.set()
            if not self._connection.is_closed:
                await subscription.unsubscribe()

    def _consumer(self, inbox: str) -> ConsumerConfig:
        return ConsumerConfig(
            name=f"tail-{secrets.token_hex(8)}",
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._reader.sequence + 1,
            deliver_subject=inbox,
            ack_policy=AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=30 * HEARTBEAT_S,
            num_replicas=1,
            mem_storage=True,
        )

    def _silent(self) -> bool:
        return time.monotonic() - self._heard_at > 3 * HEARTBEAT_S

    async def _on_message(self, message: Msg) -> None:
        if self._lost.is_set():
            return
        self._heard_at = time.monotonic()
        if message.headers and "Status" in message.headers:
            await self._on_status(message)
            return
        at = message.metadata.sequence
        if at.consumer != self._received + 1:
            self._lost.set()
            return
        self._received += 1
        self._reader.take(message, at.stream)

    async def _on_status(self, message: Msg) -> None:
        """A heartbeat, or a request of flow control, which is answered when all before it has been taken."""
        headers = message.headers or {}
        if int(headers.get("Nats-Last-Consumer", self._received)) != self._received:
            self._lost.set()
            return
        permission = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if permission:
            await self._reader.settled()
            self._heard_at = time.monotonic()
            await self._connection.publish(permission)
