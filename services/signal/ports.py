"""What the signal service needs of the bus."""

from typing import Protocol

from shared.events.facts import SessionFact
from shared.events.subjects import BeatKey


class Deliver(Protocol):
    async def __call__(self, subject: str, payload: bytes) -> None:
        """Send `payload` to whoever is subscribed; nobody is an answer too."""


class SessionWriter(Protocol):
    async def write(self, peer: BeatKey, fact: SessionFact, *, after: int) -> int:
        """Replace the peer's fact with sequence `after` (0: there is none); gives the new one's sequence.

        Raises shared.bus.lastvalues.Superseded when another replica was faster, and RetryLater when the bus takes
        nothing at the moment.
        """


class Ear(Protocol):
    def deaf(self) -> bool:
        """Whether heartbeats may have been missed since the last call."""


class Hears(Protocol):
    def beat(self, subject: str, data: bytes) -> None:
        """Take a heartbeat."""


class Introduces(Protocol):
    async def signal(self, subject: str, payload: bytes) -> None:
        """Take a sealed signal."""
