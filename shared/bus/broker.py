"""FastStream's broker on a connection of ours: how services hear requests, and messages that are for a handler.

Streams are read through nats-py (ordered.py), and so are subjects where FastStream's 0.05 ms a message would be most of
the work: services/DESIGN.md draws the line.
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import nats.errors
from faststream import BaseMiddleware, ContextRepo
from faststream.nats import NatsBroker, NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.connection import troubles
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY, Counter

KNOWN_WITHIN_S = 2

Leave: TypeAlias = Callable[[], Awaitable[None]]
"""Ends a subscription after the messages at work."""

_handled = Counter("whimbrel_handled_messages", "Messages that handlers were given", ["pattern"], registry=REGISTRY)
_seconds = Counter(
    "whimbrel_handling_seconds", "Time from a message to its handler's end", ["pattern"], registry=REGISTRY
)


class Broker(NatsBroker):
    """Handlers over a connection that is never given up (shared.bus.connection).

    dial: gives the connection. What a handler cannot read (it raises Undecodable or BadSubject) is noted and dropped.
    """

    def __init__(self, dial: Callable[[], Awaitable[Client]], undecodables: Undecodables) -> None:
        def handling(message: Any, /, *, context: ContextRepo) -> _Handling:
            return _Handling(undecodables, message, context=context)

        super().__init__(
            decoder=_as_it_came,
            middlewares=[handling],
            logger=logging.getLogger("whimbrel.bus"),
            log_level=logging.DEBUG,
        )
        self._dial = dial

    async def _connect(self) -> Client:
        connection = await self._dial()
        self.config.connect(connection)
        return connection

    async def hear(self, pattern: str, handler: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> Leave:
        """Hand each message on the subjects to the handler from now on, one after the other, as the bytes that came.

        The bus knows of it when this returns, or as soon as it is back if it is away. queue: of all who hear in the
        same queue group one is given the message. The broker must be connected.
        """
        subscriber = self.subscriber(pattern, queue=queue, no_reply=True)

        @subscriber
        async def hand_on(message: NatsMessage) -> None:
            await handler(message.raw_message)

        await subscriber.start()
        with contextlib.suppress(nats.errors.Error):
            await (await self.connect()).flush(KNOWN_WITHIN_S)
        subscription: Any = subscriber.subscription
        leave: Leave = subscription.drain
        return leave

    def troubles(self) -> Sequence[str]:
        """Why its handlers hear nothing; empty while the bus is there."""
        return troubles(self._connection)

    async def leave(self) -> None:
        """Hand out what was received and close; a bus that is away does not hold this up."""
        connection = self._connection
        try:
            await self.stop()
        except* nats.errors.Error:  # FastStream gathers what its subscribers raise
            if connection is not None:
                await connection.close()


class _Handling(BaseMiddleware[Any, Any]):
    """Around each handler: counts, times, and notes what cannot be read."""

    def __init__(self, undecodables: Undecodables, message: Any, /, *, context: ContextRepo) -> None:
        super().__init__(message, context=context)
        self._undecodables = undecodables

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        pattern = self.context.get_local("handler_").subject.template
        began_at = time.perf_counter()
        try:
            return await call_next(msg)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(pattern, problem)
        finally:
            _handled.labels(pattern).inc()
            _seconds.labels(pattern).inc(time.perf_counter() - began_at)


async def over(connection: Client, undecodables: Undecodables) -> Broker:
    """A broker on a connection that is somebody else's: it is not to be stopped."""

    async def there() -> Client:
        return connection

    broker = Broker(there, undecodables)
    await broker.connect()
    return broker


async def _as_it_came(message: NatsMessage) -> bytes:
    """FastStream would guess at JSON."""
    return message.body
