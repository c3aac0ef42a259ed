"""Builds the signal service."""

import asyncio
from functools import partial

from services.signal.bus import Bus
from services.signal.core.introductions import Introductions, Limits
from services.signal.core.presence import PresenceTracker
from services.signal.forwarding import Forwarding
from services.signal.handlers import subscribe
from services.signal.sessions import Sessions
from services.signal.settings import Settings
from shared import metrics
from shared.bus import lastvalues
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.keys import read_seed
from shared.bus.streams import FACTS
from shared.bus.undecodable import Undecodables
from shared.events.signals import MAX_SILENCE_S
from shared.events.subjects import FACT_SESSIONS

ROLE = "signal"


async def run(settings: Settings, *, max_silence_s: float = MAX_SILENCE_S, limits: Limits | None = None) -> None:
    """Introduce peers and track presence until cancelled. Raises BadSetting, CorruptFile or Taken before anything else.

    max_silence_s, limits: for tests that cannot wait or flood as the real ones would have them.
    """
    seed = read_seed(settings.credentials)
    undecodables = Undecodables()
    dial = partial(connect, settings.bus, seed, ROLE, ca=settings.bus_ca, name=settings.bus_name)
    broker = Broker(dial, undecodables)
    with metrics.page(settings.metrics_port, settings.metrics_host, broker.troubles):
        try:
            connection = await broker.connect()
            bus = Bus(connection)
            sessions = Sessions(PresenceTracker(max_silence_s), bus, bus, undecodables)
            forwarding = Forwarding(Introductions(limits or Limits()), bus.deliver)
            await subscribe(connection, broker, sessions, forwarding)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lastvalues.follow(connection, FACTS, FACT_SESSIONS, sessions))
                tasks.create_task(sessions.watch())
                tasks.create_task(sessions.write())
        finally:
            await broker.leave()
