"""FastStream's broker on a service's own connection."""

import logging
from collections.abc import Sequence
from pathlib import Path

import nats.errors
from faststream.nats import NatsBroker, NatsMessage
from nats.aio.client import Client

from shared.bus.connection import connect, troubles


class Broker(NatsBroker):
    """Subscribers as FastStream has them, over a connection that is never given up (shared.bus.connection).

    Handlers get the body as the bytes that came: FastStream would guess at JSON.
    """

    def __init__(self, url: str, seed: str, role: str, *, ca: Path | None = None, name: str = "") -> None:
        super().__init__(
            url.split(","), decoder=_as_it_came, logger=logging.getLogger("whimbrel.bus"), log_level=logging.DEBUG
        )
        self._seed = seed
        self._role = role
        self._url = url
        self._ca = ca
        self._name = name

    async def _connect(self) -> Client:
        connection = await connect(self._url, self._seed, self._role, ca=self._ca, name=self._name)
        self.config.connect(connection)
        return connection

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


async def _as_it_came(message: NatsMessage) -> bytes:
    return message.body
