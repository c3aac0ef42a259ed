"""FEED as it stands, read by a new owner: batch by batch, so that it may be of any size."""

import asyncio
import itertools
from collections.abc import Callable

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from services.management.core.feed.published import Published
from services.management.projector.writer import NotStored
from shared.bus.codec import decode
from shared.bus.streams import ANSWER_WITHIN_S, FEED
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import KINDS, FeedMessage, PresenceDoc, ResolutionDoc, ResolvedName, Tombstone
from shared.events.subjects import BadSubject, FeedKey

SILENCE_S = 5.0
"""Reading has failed when nothing came for this long."""

INACTIVE_S = 30.0
"""The server forgets the consumer by itself when its reader died."""

BATCH = 256
"""Messages asked for at a time: a few milliseconds of work."""

MOST_BYTES = 16 * 1024 * 1024
"""Of one batch. The server cuts off a client that has 64 MiB before it; one message has up to 8."""

_NOTHING_LEFT = "404"


Stood = Callable[[FeedKey, int], None]
"""Called with the key and sequence of each message, tombstones and unreadable ones too."""


class FeedSnapshot:
    """The documents that stand in FEED. resolutions: names by account and route. presences: by account and peer, what
    is said to the peer itself, which is the whole. documents: how many. newest: revision, among the documents and the
    tombstones. sequence: of the last message."""

    def __init__(self, undecodables: Undecodables, stood: Stood) -> None:
        self.published = Published()
        self.resolutions: dict[tuple[str, str], tuple[ResolvedName, ...]] = {}
        self.presences: dict[tuple[str, str], PresenceDoc] = {}
        self.documents = 0
        self.newest = 0
        self.sequence = 0
        self._undecodables = undecodables
        self._stood = stood

    def take(self, message: Msg, sequence: int) -> None:
        """The next message of the stream."""
        self.sequence = sequence
        if message.subject == subjects.FEED_OWNER:
            return
        try:
            key = subjects.parse_feed(message.subject)
        except BadSubject as problem:
            self._undecodables.note(subjects.FEED_ALL, problem)
            return
        self.documents += 1
        self._stood(key, sequence)
        try:
            held = decode(message.subject, message.data, FeedMessage)
        except Undecodable as problem:
            self._undecodables.note(subjects.FEED_ALL, problem)
            self.published.found(key, None)
            return
        self.newest = max(self.newest, held.revision)
        if isinstance(held.document, ResolutionDoc):
            self.resolutions[key.account, key.id] = held.document.names
        elif isinstance(held.document, PresenceDoc) and key.audience == subjects.peer_audience(key.id):
            self.presences[key.account, key.id] = held.document
        if not isinstance(held.document, Tombstone):
            self.published.found(key, held.document if KINDS[type(held.document)] == key.kind else None)


class FeedReader:
    """Reads every document that stands in FEED."""

    def __init__(self, client: Client, undecodables: Undecodables, stood: Stood) -> None:
        self._client = client
        self._stood = stood
        self._undecodables = undecodables

    async def read(self, claimed: int) -> FeedSnapshot:
        """Read the whole of FEED.

        claimed: sequence of the reader's own claim, which keeps others from writing meanwhile.
        Raises TimeoutError when the server stops sending, NotStored when it has not got the claim yet or ends the
        reading, or a NatsError.
        """
        found = FeedSnapshot(self._undecodables, self._stood)
        pull = _Pull(found, self._client.new_inbox())
        subscription = await self._client.subscribe(
            f"{pull.inbox}.*", cb=pull.arrived, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            jetstream = self._client.jetstream(timeout=ANSWER_WITHIN_S)
            config = ConsumerConfig(
                ack_policy=AckPolicy.NONE, mem_storage=True, num_replicas=1, inactive_threshold=INACTIVE_S
            )
            consumer = await jetstream.add_consumer(FEED, config)
            pull.left = consumer.num_pending or 0
            request = msgspec.json.encode({"batch": BATCH, "max_bytes": MOST_BYTES, "no_wait": True})
            while pull.left:
                reply = pull.begin()
                await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{FEED}.{consumer.name}", request, reply=reply)
                await pull.ended()
            await jetstream.delete_consumer(FEED, consumer.name)
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()
        if found.sequence < claimed:
            raise NotStored("this server has not got the claim yet")
        return found


class _Pull:
    """One request for messages after the other. left: how many the consumer still has.

    Each has a subject of its own below the inbox: the server may say that one is completed when the next is under way.
    """

    def __init__(self, found: FeedSnapshot, inbox: str) -> None:
        self.left = 0
        self.inbox = inbox
        self._numbers = itertools.count()
        self._reply = ""
        self._found = found
        self._wanted = 0
        self._got = 0
        self._status = ""
        self._news = asyncio.Event()

    def begin(self) -> str:
        """Prepare the next request; gives the subject that the server shall answer it on."""
        self._wanted, self._got, self._status = min(BATCH, self.left), 0, ""
        self._reply = f"{self.inbox}.{next(self._numbers)}"
        return self._reply

    async def arrived(self, message: Msg) -> None:
        if message.reply:
            at = message.metadata
            self._found.take(message, at.sequence.stream)
            self._got += 1
            self.left = at.num_pending
        elif message.subject == self._reply:
            self._status = (message.headers or {}).get("Status", "")
        self._news.set()

    async def ended(self) -> None:
        """Return when the request is answered: with all that was wanted, or with what fits into its bytes."""
        while self._got < self._wanted and self.left and not self._status:
            self._news.clear()
            async with asyncio.timeout(SILENCE_S):
                await self._news.wait()
        if self._status == _NOTHING_LEFT:
            self.left = 0
        elif self._status and not self._got:
            raise NotStored(f"the server ended the reading with status {self._status}")
