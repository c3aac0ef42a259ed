"""Writes to FEED that only its newest claimant can make."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.projector.succession import Claim
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.documents import TOMBSTONE_TTL_S, FeedMessage, Tombstone
from shared.events.subjects import FeedKey

SILENCE_S = 3.0
"""Writing has failed when nothing was answered for this long: the stream's leader is gone, and nobody answers what
was on its way to it."""

AT_ONCE = 1_000
"""Messages of one batch, nats-server's limit."""

MOST_BYTES = 4 * 1024 * 1024
"""Of one batch."""

FEW = 16
"""So many messages are written one by one. A batch costs the server as much as 15 to 30 of them, because it is kept in
files of its own until it is whole, but then one sync stores all of it."""

YIELD_EVERY = 50
"""Messages encoded, or handed to the connection, before others may run: about a millisecond."""

IN_FLIGHT_PAUSE_S = 0.001

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE = 10071
_IN_FLIGHT = 10164
"""A replicated stream compares one message per fence at a time, and says so instead of comparing."""

_BATCH = "Nats-Batch-Id"
_BATCH_SEQUENCE = "Nats-Batch-Sequence"
_BATCH_COMMIT = "Nats-Batch-Commit"

FeedWrite = tuple[FeedKey, FeedMessage]

Stored = Callable[[FeedKey, int], None]
"""Called with the key and sequence of each message that FEED took, in order. It may not block."""


class Superseded(Exception):
    """Stand by: another replica has claimed FEED."""


class NotStored(Exception):
    """Read FEED again and try again: the bus refused a write or did not answer. `problem` is one line."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    """The server's acknowledgement of a published message."""

    seq: int = 0
    error: _Error | None = None


class _Message(NamedTuple):
    """A message of FEED without its fence."""

    key: FeedKey
    subject: str
    data: bytes
    headers: dict[str, str]


class FencedWriter:
    """Writes to FEED, as long as nobody else has claimed it since.

    Every write names the sequence of the claim it is made under, and the server compares it with that of the last
    claim. The documents' own sequences would not do: an owner that was suspended could, once it goes on, bring back a
    document that its successor has no reason to look at.
    """

    def __init__(self, client: Client, stored: Stored) -> None:
        self._client = client
        self._stored = stored
        self._claimed = 0
        self._inbox = client.new_inbox()
        self._subscribed = False
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[_Answer]] = {}

    async def claim(self, claim: Claim) -> int:
        """From now on every other writer is refused. Gives the claim's sequence in FEED.

        Raises NotStored or a NatsError.
        """
        (answer,) = await self._answers([await self._publish(subjects.FEED_OWNER, encode(claim), {})])
        if answer.error:
            raise NotStored(answer.error.description)
        self._claimed = answer.seq
        return answer.seq

    async def write(self, writes: Sequence[FeedWrite]) -> None:
        """Return once all are stored. Raises Superseded, NotStored or a NatsError; some may be stored then, the first
        ones, and of each batch all or none.
        """
        for batch in _batches(await _messages(writes)):
            if len(batch) <= FEW:
                await self._write_singly(batch)
            else:
                await self._write_batch(batch)

    async def _write_singly(self, batch: Sequence[_Message]) -> None:
        waiting = await self._write_at_once(batch)
        while waiting:
            waiting = [*await self._write_at_once(waiting[:1]), *waiting[1:]]

    async def _write_at_once(self, batch: Sequence[_Message]) -> list[_Message]:
        """Write the messages; gives those to write again, because the server did not compare their fence."""
        answers = await self._answers([await self._publish_fenced(message) for message in batch])
        again = []
        for message, answer in zip(batch, answers, strict=True):
            if _taken(answer):
                self._stored(message.key, answer.seq)
            else:
                again.append(message)
        return again

    async def _write_batch(self, batch: Sequence[_Message]) -> None:
        while not _taken(answer := (await self._answers([await self._publish_batch(batch)]))[0]):
            await asyncio.sleep(IN_FLIGHT_PAUSE_S)
        for sequence, message in enumerate(batch, answer.seq - len(batch) + 1):
            self._stored(message.key, sequence)

    async def _publish_batch(self, batch: Sequence[_Message]) -> asyncio.Future[_Answer]:
        """Publish a batch. Only its first message is fenced: the server compares the fence when it has the last
        message, and takes all or none. It republishes the messages that it took."""
        name = f"{self._inbox}.{next(self._numbers)}"
        last = len(batch)
        for number, message in enumerate(batch[:-1], 1):
            headers = {**message.headers, _BATCH: name, _BATCH_SEQUENCE: str(number)}
            if number == 1:
                headers |= self._fence()
            await self._client.publish(message.subject, message.data, headers=headers)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        headers = {**batch[-1].headers, _BATCH: name, _BATCH_SEQUENCE: str(last), _BATCH_COMMIT: "1"}
        return await self._publish(batch[-1].subject, batch[-1].data, headers)

    async def _publish_fenced(self, message: _Message) -> asyncio.Future[_Answer]:
        return await self._publish(message.subject, message.data, message.headers | self._fence())

    def _fence(self) -> dict[str, str]:
        return {_EXPECTED: str(self._claimed), f"{_EXPECTED}-Subject": subjects.FEED_OWNER}

    async def _publish(self, subject: str, data: bytes, headers: dict[str, str]) -> asyncio.Future[_Answer]:
        # Not JetStreamContext.publish_async: a refusal raises in its callback, and its future is never done.
        if not self._subscribed:
            await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)
            self._subscribed = True
        reply = f"{self._inbox}.{next(self._numbers)}"
        answer = self._waiting[reply] = asyncio.get_running_loop().create_future()
        await self._client.publish(subject, data, reply=reply, headers=headers)
        return answer

    async def _answered(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting and not waiting.done():
            waiting.set_result(_read(message))

    async def _answers(self, expected: list[asyncio.Future[_Answer]]) -> list[_Answer]:
        unanswered = set(expected)
        try:
            while unanswered:
                answered, unanswered = await asyncio.wait(
                    unanswered, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if not answered:
                    raise NotStored(f"no answer within {SILENCE_S:g} s")
            return [answer.result() for answer in expected]
        finally:
            self._waiting.clear()


def _read(message: Msg) -> _Answer:
    if not message.data:  # the server's word that nobody listens on the subject
        return _Answer(error=_Error(err_code=503, description="there is no stream for it"))
    return msgspec.json.decode(message.data, type=_Answer)


def _taken(answer: _Answer) -> bool:
    """Whether FEED took the message; False when the server compared no fence. Raises Superseded or NotStored."""
    if answer.error is None:
        return True
    if answer.error.err_code == _WRONG_SEQUENCE:
        raise Superseded
    if answer.error.err_code != _IN_FLIGHT:
        raise NotStored(answer.error.description)
    return False


async def _messages(writes: Sequence[FeedWrite]) -> list[_Message]:
    messages = []
    for number, (key, message) in enumerate(writes, 1):
        messages.append(_message(key, message))
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
    return messages


def _message(key: FeedKey, message: FeedMessage) -> _Message:
    headers = {"Nats-TTL": str(round(TOMBSTONE_TTL_S))} if isinstance(message.document, Tombstone) else {}
    return _Message(key, subjects.feed(key), encode(message), headers)


def _batches(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    batch: list[_Message] = []
    size = 0
    for message in messages:
        if len(batch) == AT_ONCE or (batch and size + len(message.data) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message.data)
    if batch:
        yield batch
