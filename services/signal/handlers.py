"""What arrives from the bus, and where it goes."""

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.signal.ports import Hears, Introduces
from shared.bus.broker import Broker
from shared.events.subjects import BEAT_ALL, SIGNAL_FROM_ALL

REPLICAS = "signal"
"""Queue group: the bus gives each signal to one replica. Heartbeats go to all of them."""


async def subscribe(connection: Client, broker: Broker, sessions: Hears, forwarding: Introduces) -> None:
    """Hear both from now on. Heartbeats come without FastStream: services/DESIGN.md has the figures."""

    async def beat(message: Msg) -> None:
        sessions.beat(message.subject, message.data)

    async def signal(message: Msg) -> None:
        await forwarding.signal(message.subject, message.data)

    await connection.subscribe(BEAT_ALL, cb=beat)
    await broker.hear(SIGNAL_FROM_ALL, signal, queue=REPLICAS)
