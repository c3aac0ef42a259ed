"""Reading the log in order, from any sequence on, without a gap and for ever."""

from typing import Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from shared.bus import ordered
from shared.bus.patience import Trouble
from shared.bus.streams import LOG


class Reader(Protocol):
    """Takes the log's messages."""

    @property
    def sequence(self) -> int:
        """LOG sequence of the last message it took, 0 before the first."""

    def take(self, message: Msg, sequence: int) -> None:
        """The next message. It must be quick and raises nothing."""

    async def settled(self) -> None:
        """Return when it can take more; the server holds back the rest of a long log meanwhile."""


async def follow(connection: Client, reader: Reader) -> None:
    """Hand every message after `reader.sequence` to it, once and in order, for ever."""

    def start() -> ConsumerConfig:
        return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=reader.sequence + 1)

    trouble = Trouble("log not readable", "the log is readable again")
    await ordered.follow(connection, LOG, start, reader.take, trouble, settled=reader.settled)
