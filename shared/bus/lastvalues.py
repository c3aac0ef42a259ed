"""Streams that keep the last value of each subject: follow them whole, replace one value at a time."""

import asyncio
import secrets
from functools import partial
from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from shared.bus.patience import Patience, Trouble
from shared.bus.streams import ANSWER_WITHIN_S, WRONG_LAST_SEQUENCE
from shared.tasks import end_if_cancelled

HEARTBEAT_S = 1.0
"""How often the server says that a consumer lives; three missing ones and it is made anew."""

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
    trouble = Trouble("stream not readable", "the stream is readable again", quiet_s=QUIET_S, stream=stream)
    await Patience(trouble).keep(partial(_follow_once, connection, stream, pattern, reader, trouble))


async def _follow_once(connection: Client, stream: str, pattern: str, reader: Reader, trouble: Trouble) -> None:
    """Returns at the first sign that something was missed."""
    inbox = connection.new_inbox()
    # No limits of the client's: the server asks now and then whether all before was taken, and waits for the answer.
    # A queue of our own: nats-py's next_msg loses a cancellation that meets a message (wait_for before Python 3.12).
    arrived = asyncio.Queue[Msg]()
    subscription = await connection.subscribe(inbox, cb=arrived.put, pending_msgs_limit=0, pending_bytes_limit=0)
    try:
        consumer = await connection.jetstream(timeout=ANSWER_WITHIN_S).add_consumer(
            stream,
            ConsumerConfig(
                name=f"follow-{secrets.token_hex(8)}",
                filter_subject=pattern,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                deliver_subject=inbox,
                ack_policy=AckPolicy.NONE,
                flow_control=True,
                idle_heartbeat=HEARTBEAT_S,
                inactive_threshold=30 * HEARTBEAT_S,
                num_replicas=1,
                mem_storage=True,
            ),
        )
        trouble.over()
        reader.begin()
        behind = bool(consumer.num_pending)
        if not behind:
            reader.caught_up()
        received = 0
        while True:
            end_if_cancelled()
            async with asyncio.timeout(3 * HEARTBEAT_S):
                message = await arrived.get()
            if message.headers and "Status" in message.headers:
                if _missed_before(message, received):
                    return
                if permission := message.reply or message.headers.get("Nats-Consumer-Stalled"):
                    await connection.publish(permission)
                continue
            at = message.metadata
            if at.sequence.consumer != received + 1:
                return
            received += 1
            reader.message(message.subject, message.data, at.sequence.stream)
            if behind and not at.num_pending:
                behind = False
                reader.caught_up()
    finally:
        if not connection.is_closed:
            await subscription.unsubscribe()


def _missed_before(heartbeat: Msg, received: int) -> bool:
    return int((heartbeat.headers or {}).get("Nats-Last-Consumer", received)) != received


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
