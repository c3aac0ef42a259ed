"""Which replica resolves: the one that a pinned consumer serves.

The consumer has one message and nobody acknowledges it, so that the bus delivers it again and again, to the replica
that has the pin: its turn. The pin is kept by asking for messages; when its holder asks no more, the bus delivers the
message to another one.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.codec import encode
from shared.bus.lastvalues import QUIET_S, Superseded, replace
from shared.bus.patience import OF_THE_BUS, Trouble
from shared.bus.pinned import ACK_WAIT_S, PinnedConsumer
from shared.bus.streams import FACTS
from shared.events import subjects
from shared.metrics import REGISTRY, Gauge
from shared.tasks import end_if_cancelled

CONSUMER = "resolver"

MISSED_S = 5 * ACK_WAIT_S
"""A replica that was not told for so long that it is its turn makes sure that the message is there."""

log = structlog.get_logger()

_turn = Gauge("whimbrel_resolver_turn", "Whether this replica resolves (1) or stands by (0)", registry=REGISTRY)


class _Message(msgspec.Struct):
    """Says nothing but that it is there."""


class Turn:
    """mine: whether this replica resolves. It stays so while the bus is away: who stands by has no turn either.

    changed: called when `mine` is another.
    """

    def __init__(self, connection: Client, changed: Callable[[], None]) -> None:
        self.mine = False
        self._connection = connection
        self._changed = changed
        self._told = asyncio.Event()
        self._consumer = PinnedConsumer(
            connection,
            FACTS,
            CONSUMER,
            subjects.RESOLVERS_TURN,
            on_message=self._delivered,
            on_lost=lambda: self._set(False),
            wanted=lambda: True,
            quiet_s=QUIET_S,
        )

    async def run(self) -> None:
        """Until cancelled; then another replica has its turn at once."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._consumer.run())
            tasks.create_task(self._keep_message())

    def _delivered(self, _message: Msg, _pin: str) -> None:
        self._told.set()
        self._set(True)

    def _set(self, mine: bool) -> None:
        if mine == self.mine:
            return
        self.mine = mine
        _turn.set(mine)
        log.info("this replica resolves" if mine else "another replica resolves")
        self._changed()

    async def _keep_message(self) -> None:
        """Write the message whenever it may be missing: at the beginning, or lost with a part of the stream."""
        trouble = Trouble("whose turn it is to resolve is not known", "it is known whose turn it is", quiet_s=QUIET_S)
        while True:
            end_if_cancelled()
            try:
                await replace(self._connection.jetstream(), subjects.RESOLVERS_TURN, encode(_Message()), after=0)
                trouble.over()
            except Superseded:
                trouble.over()
            except OF_THE_BUS as problem:
                trouble.tell(problem)
            await self._missed()

    async def _missed(self) -> None:
        """Return when nothing was delivered for MISSED_S."""
        while True:
            end_if_cancelled()
            self._told.clear()
            try:
                async with asyncio.timeout(MISSED_S):
                    await self._told.wait()
            except TimeoutError:
                return
