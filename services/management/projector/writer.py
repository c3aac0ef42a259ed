"""Writes to FEED that only its newest claimant can make."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.codec import encode
from shared.events import subjects
from shared.events.documents import TOMBSTONE_TTL_S, FeedMessage, Tombstone
from shared.events.subjects import FeedKey

SILENCE_S = 3.0
"""Writing has failed when nothing was answered for this long: the stream's leader is gone, and nobody answers what
was on its way to it."""

AT_ONCE = 1_000
"""Writes under way at a time; the server refuses more than 10,000 that it has not got to."""

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE = 10071
_IN_FLIGHT = 10164
"""A replicated stream compares one message per fence at a time, and says so instead of comparing."""

FeedWrite = tuple[FeedKey, FeedMessage]

Stored = Callable[[FeedKey, int], None]
"""Told of each message that FEED took, in the order of their sequences. It may not block."""


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

    async def claim(self) -> int:
        """From now on every other writer is refused. Gives the claim's sequence in FEED.

        Raises NotStored or a NatsError.
        """
        (answer,) = await self._answers([await self._publish(subjects.FEED_OWNER, b"", {})])
        if answer.error:
            raise NotStored(answer.error.description)
        self._claimed = answer.seq
        return answer.seq

    async def write(self, writes: Sequence[FeedWrite]) -> None:
        """Return once all are stored. Raises Superseded, NotStored or a NatsError; some may be stored then."""
        for start in range(0, len(writes), AT_ONCE):
            waiting = await self._write_at_once(writes[start : start + AT_ONCE])
            while waiting:
                waiting = [*await self._write_at_once(waiting[:1]), *waiting[1:]]

    async def _write_at_once(self, writes: Sequence[FeedWrite]) -> list[FeedWrite]:
        """Gives those that have to be written again, because the server did not compare them."""
        answers = await self._answers([await self._publish_document(key, message) for key, message in writes])
        refused = [(write, answer.error) for write, answer in zip(writes, answers, strict=True) if answer.error]
        if any(error.err_code == _WRONG_SEQUENCE for _, error in refused):
            raise Superseded
        for _, error in refused:
            if error.err_code != _IN_FLIGHT:
                raise NotStored(error.description)
        for (key, _), answer in zip(writes, answers, strict=True):
            if not answer.error:
                self._stored(key, answer.seq)
        return [write for write, _ in refused]

    async def _publish_document(self, key: FeedKey, message: FeedMessage) -> asyncio.Future[_Answer]:
        headers = {_EXPECTED: str(self._claimed), f"{_EXPECTED}-Subject": subjects.FEED_OWNER}
        if isinstance(message.document, Tombstone):
            headers["Nats-TTL"] = str(round(TOMBSTONE_TTL_S))
        return await self._publish(subjects.feed(key), encode(message), headers)

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
