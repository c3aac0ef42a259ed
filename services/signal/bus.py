"""The bus as the signal service uses it beside its handlers."""

import nats.errors
from nats.aio.client import Client

from services.signal.errors import RetryLater
from shared.bus.codec import encode
from shared.bus.lastvalues import UNCONFIRMED, replace
from shared.events import subjects
from shared.events.facts import SessionFact
from shared.events.subjects import BeatKey


class Bus:
    """Session facts, deliveries and the state of the connection (ports SessionWriter, Deliver and Ear)."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._jetstream = connection.jetstream()
        self._reconnects_seen = connection.stats["reconnects"]

    async def write(self, peer: BeatKey, fact: SessionFact, *, after: int) -> int:
        try:
            return await replace(
                self._jetstream, subjects.session_fact(peer.account, peer.peer), encode(fact), after=after
            )
        except TimeoutError:
            raise RetryLater(UNCONFIRMED) from None
        except nats.errors.Error as problem:
            raise RetryLater(str(problem)) from None

    async def deliver(self, subject: str, payload: bytes) -> None:
        await self._connection.publish(subject, payload)

    def deaf(self) -> bool:
        before, self._reconnects_seen = self._reconnects_seen, self._connection.stats["reconnects"]
        return not self._connection.is_connected or before != self._reconnects_seen
