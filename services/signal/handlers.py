"""What arrives from the bus, and where it goes."""

from faststream.nats.annotations import NatsMessage

from services.signal.ports import Hears, Introduces
from shared.bus.broker import Broker
from shared.events.subjects import BEAT_ALL, SIGNAL_FROM_ALL

REPLICAS = "signal"
"""Queue group: the bus gives each signal to one replica. Heartbeats go to all of them."""


def subscribe(broker: Broker, sessions: Hears, forwarding: Introduces) -> None:
    """Bind the subjects; they are read once the broker starts."""

    @broker.subscriber(BEAT_ALL, no_reply=True)
    async def beat(message: NatsMessage) -> None:
        sessions.beat(message.raw_message.subject, message.body)

    @broker.subscriber(SIGNAL_FROM_ALL, queue=REPLICAS, no_reply=True)
    async def signal(message: NatsMessage) -> None:
        await forwarding.signal(message.raw_message.subject, message.body)
