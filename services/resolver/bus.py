"""The bus as the resolver uses it beside its readers."""

import nats.errors
from nats.aio.client import Client

from services.resolver.core.routes import RouteKey
from services.resolver.errors import RetryLater
from shared.bus.codec import encode
from shared.bus.lastvalues import UNCONFIRMED, replace
from shared.events import subjects
from shared.events.facts import ResolutionFact


class Bus:
    """Writes resolution facts (port FactWriter)."""

    def __init__(self, connection: Client) -> None:
        self._jetstream = connection.jetstream()

    async def write(self, key: RouteKey, fact: ResolutionFact, *, after: int) -> int:
        subject = subjects.resolution_fact(key.account, key.route_id)
        try:
            return await replace(self._jetstream, subject, encode(fact), after=after)
        except TimeoutError:
            raise RetryLater(UNCONFIRMED) from None
        except nats.errors.Error as problem:
            raise RetryLater(str(problem)) from None
