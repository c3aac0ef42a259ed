"""nats-py's client with what all our connections have in common."""

from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.transport import BusTransport
from shared.tasks import unswallowed


class BusClient(Client):
    """Speaks over the transport that it is given, and never loses a cancellation.

    nats-py waits for each answer with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes
    together with its result: the task that was to end goes on, and whoever waits for its end waits for ever.
    """

    def __init__(self, transport: BusTransport) -> None:
        super().__init__()
        self._transport = transport  # nats-py makes one of its own only where there is none

    async def connect(self, *args: Any, **options: Any) -> None:
        await unswallowed(super().connect(*args, **options))

    async def request(self, *args: Any, **options: Any) -> Msg:
        return await unswallowed(super().request(*args, **options))

    async def flush(self, *args: Any, **options: Any) -> None:
        await unswallowed(super().flush(*args, **options))

    async def drain(self) -> None:
        await unswallowed(super().drain())
