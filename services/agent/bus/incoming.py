"""What comes over the sessions of a feed: decoded, and told to the reading of the feed or to the listener."""

import asyncio
import random
import time
from typing import Literal, Protocol

import msgspec
from nats.aio.msg import Msg

from services.agent.core.feed.reading import Reading
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import Beacon, FeedMessage
from shared.events.subjects import BadSubject, FeedKey, SignalKey


class Listener(Protocol):
    """Hears what came. None of it may block."""

    def changed(self) -> None:
        """The picture of the feed changed."""

    def signal(self, key: SignalKey, sealed: bytes) -> None: ...

    def asked(self, subject: str, data: bytes) -> None:
        """The resolver wants to know of names."""


class _Election(msgspec.Struct, frozen=True):
    """The server's word that a stream has another leader (nats-server, JSStreamLeaderElectedAdvisory).

    Every host can have its own requests answered on this subject, and would so have all hosts read again; no answer of
    the bus is of this type.
    """

    type: Literal["io.nats.jetstream.advisory.v1.stream_leader_elected"]


class Incoming:
    """Takes messages of any session: the one before goes on bringing what is written until the next one is open.

    stirred: set when `reading` has something to do. session: the one that does it, None before the first.
    """

    def __init__(self, reading: Reading, listener: Listener, undecodables: Undecodables) -> None:
        self.stirred = asyncio.Event()
        self.session: object = None
        self._reading = reading
        self._listener = listener
        self._undecodables = undecodables

    async def live(self, message: Msg) -> None:
        """A document as it is written, or a beacon."""
        if audience := subjects.parse_beacon(message.subject):
            self._beacon(audience, message)
            return
        headers = message.headers or {}
        try:
            sequence, before = int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"])
        except (KeyError, ValueError):
            self._undecodables.note("feed", Undecodable(message.subject, "no sequence"))
            return
        key, decoded = self._decoded(message.subject, message.data)
        if key is not None:
            self._reading.heard(key, sequence, decoded, before, boottime())
            self.look()

    def read(self, subject: str, sequence: int, data: bytes) -> None:
        """A document that a reading brought."""
        key, decoded = self._decoded(subject, data)
        if key is not None:
            self._reading.read(key, sequence, decoded, boottime())
            self.look()

    async def election(self, message: Msg) -> None:
        try:
            msgspec.json.decode(message.data, type=_Election)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            self._undecodables.note("election", Undecodable(subjects.FEED_LEADER, str(problem)))
            return
        self._reading.elected(boottime(), random.random())
        self.look()

    async def signal(self, message: Msg) -> None:
        try:
            key = subjects.parse_signal(message.subject)
        except BadSubject as problem:
            self._undecodables.note("signal", problem)
            return
        self._listener.signal(key, message.data)

    async def resolve(self, message: Msg) -> None:
        self._listener.asked(message.subject, message.data)

    def look(self) -> None:
        """Pass on what the reading of the feed made of what it was told."""
        if self._reading.take_changed():
            self._listener.changed()
        if self._reading.stirred:
            self.stirred.set()

    def _beacon(self, audience: str, message: Msg) -> None:
        try:
            beacon = decode(message.subject, message.data, Beacon)
        except Undecodable as problem:
            self._undecodables.note("beacon", problem)
            return
        self._reading.told(audience, beacon, boottime(), random.random())
        self.look()

    def _decoded(self, subject: str, data: bytes) -> tuple[FeedKey | None, FeedMessage | None]:
        """The key and the message; no message when it cannot be decoded, no key for a subject outside the feed."""
        key = None
        try:
            key = subjects.parse_feed(subject)
            return key, decode(subject, data, FeedMessage)
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note("feed", problem)
            return key, None


def boottime() -> float:
    """Seconds on a clock that also runs while the host is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
