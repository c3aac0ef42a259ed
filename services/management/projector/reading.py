"""All that a stream holds for some subjects, read at once."""

import asyncio
from collections.abc import Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

SILENCE_S = 5.0
"""Reading has failed when nothing came for this long."""

INACTIVE_S = 30.0
"""The server forgets the consumer by itself when its reader died."""


async def read_all(client: Client, stream: str, filters: Sequence[str]) -> list[Msg]:
    """The messages the stream holds now whose subjects match one of the filters, in stream order.

    What is written while it reads may be missing. Raises TimeoutError when the server stops sending, or a NatsError.
    """
    reader = _Reader()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=reader.arrived, pending_msgs_limit=0, pending_bytes_limit=0)
    try:
        return await _read(client, stream, filters, inbox, reader)
    finally:
        await subscription.unsubscribe()


async def _read(client: Client, stream: str, filters: Sequence[str], inbox: str, reader: "_Reader") -> list[Msg]:
    config = ConsumerConfig(
        filter_subjects=list(filters), ack_policy=AckPolicy.NONE, mem_storage=True, inactive_threshold=INACTIVE_S
    )
    jetstream = client.jetstream()
    consumer = await jetstream.add_consumer(stream, config)
    try:
        wanted = consumer.num_pending or 0
        request = msgspec.json.encode({"batch": max(wanted, 1), "no_wait": True})
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer.name}", request, reply=inbox)
        while len(reader.messages) < wanted and not reader.ended:
            await reader.more()
    finally:
        await jetstream.delete_consumer(stream, consumer.name)
    return reader.messages


class _Reader:
    """Gathers messages until the server says that there are no more."""

    def __init__(self) -> None:
        self.messages: list[Msg] = []
        self.ended = False
        self._news = asyncio.Event()

    async def arrived(self, message: Msg) -> None:
        if message.reply:
            self.messages.append(message)
        else:
            self.ended = True
        self._news.set()

    async def more(self) -> None:
        """Wait for the next message or the end."""
        self._news.clear()
        await asyncio.wait_for(self._news.wait(), SILENCE_S)
