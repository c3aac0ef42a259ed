"""FEED as it stands, read at once by a new owner."""

import asyncio
from collections.abc import Callable

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from services.management.projector.writer import NotStored
from shared.bus.codec import decode
from shared.bus.streams import ANSWER_WITHIN_S, FEED
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import KINDS, Document, FeedMessage, Tombstone
from shared.events.subjects import BadSubject, FeedKey

SILENCE_S = 5.0
"""Reading has failed when nothing came for this long."""

INACTIVE_S = 30.0
"""The server forgets the consumer by itself when its reader died."""


class FeedReader:
    """Reads every document that stands in FEED.

    stood: told of each message, tombstones and what is unreadable too, with its sequence.
    """

    def __init__(self, client: Client, undecodables: Undecodables, stood: Callable[[FeedKey, int], None]) -> None:
        self._client = client
        self._stood = stood
        self._undecodables = undecodables

    async def read(self, claimed: int) -> tuple[dict[FeedKey, Document | None], int]:
        """The documents, None for what is unreadable, and the newest revision among them and the tombstones.

        claimed: sequence of the reader's own claim, which keeps others from writing meanwhile.
        Raises TimeoutError when the server stops sending, NotStored when it has not got the claim yet, or a NatsError.
        """
        stored: dict[FeedKey, Document | None] = {}
        newest = 0
        messages = await _read_all(self._client)
        if not messages or messages[-1].metadata.sequence.stream < claimed:
            raise NotStored("this server has not got the claim yet")
        for message in messages:
            if message.subject == subjects.FEED_OWNER:
                continue
            try:
                key = subjects.parse_feed(message.subject)
                stored[key] = None
                self._stood(key, message.metadata.sequence.stream)
                held = decode(message.subject, message.data, FeedMessage)
            except (BadSubject, Undecodable) as problem:
                self._undecodables.note(subjects.FEED_ALL, problem)
                continue
            newest = max(newest, held.revision)
            if isinstance(held.document, Tombstone):
                del stored[key]
            elif KINDS[type(held.document)] == key.kind:
                stored[key] = held.document
        return stored, newest


async def _read_all(client: Client) -> list[Msg]:
    """All messages of the stream, in its order."""
    inbox = client.new_inbox()
    pulled = _Pulled()
    subscription = await client.subscribe(inbox, cb=pulled.arrived, pending_msgs_limit=0, pending_bytes_limit=0)
    try:
        jetstream = client.jetstream(timeout=ANSWER_WITHIN_S)
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE, mem_storage=True, num_replicas=1, inactive_threshold=INACTIVE_S
        )
        consumer = await jetstream.add_consumer(FEED, config)
        wanted = consumer.num_pending or 0
        request = msgspec.json.encode({"batch": max(wanted, 1), "no_wait": True})
        await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{FEED}.{consumer.name}", request, reply=inbox)
        while len(pulled.messages) < wanted and not pulled.ended:
            await pulled.more()
        await jetstream.delete_consumer(FEED, consumer.name)
    finally:
        await subscription.unsubscribe()
    return pulled.messages


class _Pulled:
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
        async with asyncio.timeout(SILENCE_S):
            await self._news.wait()
