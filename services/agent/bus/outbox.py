"""Sends what other parts publish and ask, on the connection of the session there is."""

import nats.errors
from nats.aio.client import Client

from services.agent.bus.session import Session


class Outbox:
    """session: set by bus/feed.py while one is open."""

    def __init__(self) -> None:
        self.session: Session | None = None

    @property
    def connection(self) -> Client | None:
        """The connection of the session, while it stands."""
        return self.session.connection if self.session else None

    async def request(self, subject: str, payload: bytes, within_s: float) -> bytes | None:
        """The answer; None when there is no connection, or nobody who answers."""
        connection = self.connection
        if connection is None:
            return None
        try:
            return (await connection.request(subject, payload, timeout=within_s)).data
        except (nats.errors.Error, TimeoutError):
            return None

    async def publish(self, subject: str, payload: bytes) -> bool:
        """Whether there was a connection to send it on."""
        connection = self.connection
        if connection is None:
            return False
        try:
            await connection.publish(subject, payload)
        except nats.errors.Error:
            return False
        return True
