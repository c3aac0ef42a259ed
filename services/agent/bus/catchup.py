"""Reading what the stream FEED holds for one audience, with the rights of one peer.

A named consumer with a filter is the only kind that the bus can confine to a peer (MEASUREMENTS.md, bus). It is made
for one reading and lives no longer.
"""

import asyncio
from collections.abc import Callable

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.streams import ANSWER_WITHIN_S, FEED
from shared.errors import BusUnavailable
from shared.events import subjects

BATCH = 256
FORGET_AFTER_NS = 30_000_000_000
"""The server removes a consumer that its peer left behind."""

Deliver = Callable[[str, int, bytes], None]
"""Takes a subject, its stream sequence and the message."""

_NEXT = msgspec.json.encode({"batch": BATCH, "no_wait": True})


class _Problem(msgspec.Struct, frozen=True):
    code: int = 0
    description: str = ""


class _Made(msgspec.Struct, frozen=True):
    """What the bus answers to a request for a consumer (nats-server, JSApiConsumerCreateResponse)."""

    num_pending: int = 0
    error: _Problem | None = None


async def read(connection: Client, account: str, peer: str, audience: str, after: int, deliver: Deliver) -> int:
    """Deliver all of the audience from sequence `after` on (0: from the first); gives the last sequence, 0 for nothing.

    Raises BusUnavailable, nats.errors.Error or TimeoutError when the bus does not answer or refuses.
    """
    inbox = connection.new_inbox()
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await connection.subscribe(inbox, cb=arrived.put, pending_msgs_limit=0, pending_bytes_limit=0)
    last = 0

    def note(subject: str, sequence: int, data: bytes) -> None:
        nonlocal last
        last = sequence
        deliver(subject, sequence, data)

    try:
        pending = await _make(connection, account, peer, audience, after)
        while pending:
            await connection.publish(subjects.pull_catch_up(peer, audience), _NEXT, reply=inbox)
            pending = await _batch(arrived, pending, note)
        await _give_up(connection, peer, audience)
    except TimeoutError:
        # The server that keeps the consumer may be dead: the bus then forgets it without a word, if it is asked to.
        if not connection.is_closed:
            await connection.publish(subjects.delete_catch_up(peer, audience))
        raise
    finally:
        if not connection.is_closed:
            await subscription.unsubscribe()
    return last


async def _make(connection: Client, account: str, peer: str, audience: str, after: int) -> int:
    """How many messages the new consumer will bring."""
    start = {"deliver_policy": "by_start_sequence", "opt_start_seq": after} if after else {"deliver_policy": "all"}
    config = {
        "name": subjects.catch_up_consumer(peer, audience),
        "filter_subject": subjects.feed_of(account, audience),
        "ack_policy": "none",
        "inactive_threshold": FORGET_AFTER_NS,
        "mem_storage": True,
        "num_replicas": 1,
        **start,
    }
    asked = msgspec.json.encode({"stream_name": FEED, "config": config})

    async def ask() -> _Made:
        subject = subjects.create_catch_up(account, peer, audience)
        answer = await connection.request(subject, asked, timeout=ANSWER_WITHIN_S)
        return msgspec.json.decode(answer.data, type=_Made)

    made = await ask()
    if made.error is not None:  # one that an interrupted reading left behind is in the way
        await _give_up(connection, peer, audience)
        made = await ask()
    if made.error is not None:
        raise BusUnavailable(subjects.feed_of(account, audience), made.error.description)
    return made.num_pending


async def _give_up(connection: Client, peer: str, audience: str) -> None:
    await connection.request(subjects.delete_catch_up(peer, audience), b"", timeout=ANSWER_WITHIN_S)


async def _batch(arrived: asyncio.Queue[Msg], pending: int, deliver: Deliver) -> int:
    """How many messages are left after one batch."""
    for _ in range(min(BATCH, pending)):
        async with asyncio.timeout(ANSWER_WITHIN_S):
            message = await arrived.get()
        if message.headers and "Status" in message.headers:
            return 0  # a value that was pending was replaced, and comes live
        deliver(message.subject, message.metadata.sequence.stream, message.data)
        pending = message.metadata.num_pending
    return pending
