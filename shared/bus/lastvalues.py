"""Streams that keep the last value of each subject: follow them whole, replace one value at a time."""

from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from shared.bus import ordered
from shared.bus.patience import Trouble
from shared.bus.streams import WRONG_LAST_SEQUENCE

QUIET_S = 10.0
"""Trouble that is over sooner is not worth a line: a stream is being made, or a cluster elects a leader."""

UNCONFIRMED = "the bus does not confirm it: no room on its disk, or no leader"
"""Why a value may not have been taken that was sent and not answered for."""


class Reader(Protocol):
    """What a follower of a stream is told. None of it may block."""

    def begin(self) -> None:
        """A snapshot starts: what it does not bring before `caught_up` does not exist any more."""

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        """The newest value of a subject; the sequence grows from one message to the next."""

    def caught_up(self) -> None:
        """The snapshot was whole; from here on messages come as they are written."""


class Superseded(Exception):
    """Look at the newer value first: somebody replaced the one on `subject` before us."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject} holds a newer value")
        self.subject = subject


async def follow(connection: Client, stream: str, pattern: str, reader: Reader) -> None:
    """Tell `reader` the last value of every subject of `stream` that matches, then each new one, for ever.

    Waits for the stream to exist. After any loss (server restart, gap, silence) it begins again with a snapshot.
    """

    def start() -> ConsumerConfig:
        return ConsumerConfig(filter_subject=pattern, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT)

    snapshot = _Snapshot(reader)
    trouble = Trouble("stream not readable", "the stream is readable again", quiet_s=QUIET_S, stream=stream)
    await ordered.follow(connection, stream, start, snapshot.take, trouble, begun=snapshot.begun)


class _Snapshot:
    """Tells a reader when the snapshot is whole."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._behind = False

    def begun(self, pending: int) -> None:
        self._reader.begin()
        self._behind = pending > 0
        if not self._behind:
            self._reader.caught_up()

    def take(self, message: Msg, sequence: int) -> None:
        self._reader.message(message.subject, message.data, sequence)
        if self._behind and not message.metadata.num_pending:
            self._behind = False
            self._reader.caught_up()


async def replace(jetstream: JetStreamContext, subject: str, data: bytes, *, after: int) -> int:
    """Write the value that follows the one with sequence `after` (0: there is none); gives its own sequence.

    Raises Superseded when another value came between.
    """
    headers = {"Nats-Expected-Last-Subject-Sequence": str(after)}
    try:
        return (await jetstream.publish(subject, data, headers=headers)).seq
    except APIError as problem:
        if problem.err_code in WRONG_LAST_SEQUENCE:
            raise Superseded(subject) from None
        raise
