"""What the resolver needs of the world."""

from typing import Protocol

from services.resolver.core.answers import Answer
from services.resolver.core.questions import Question
from services.resolver.core.routes import RouteKey
from shared.events.facts import ResolutionFact


class Upstream(Protocol):
    async def look_up(self, question: Question) -> Answer:
        """The name's addresses, both families; a failure is an answer too. Takes a few seconds at most."""


class FactWriter(Protocol):
    async def write(self, key: RouteKey, fact: ResolutionFact, *, after: int) -> int:
        """Replace the route's fact with sequence `after` (0: there is none); gives the new one's sequence.

        Raises shared.bus.lastvalues.Superseded when another replica was faster, and RetryLater when the bus takes
        nothing at the moment.
        """
