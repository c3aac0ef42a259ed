"""nats-py's client with what all our connections have in common."""

from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import PERMISSIONS_ERR

from shared.bus.transport import BusTransport
from shared.tasks import unswallowed


class NotPermitted(nats.errors.Error):
    """Ask for the rights that it takes: the server refuses this connection a subject."""


class BusClient(Client):
    """Speaks over the transport that it is given, never loses a cancellation, and says by name what is refused.

    nats-py waits for each answer with `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes
    together with its result: the task that was to end goes on, and whoever waits for its end waits for ever.

    `flush` returns once the server has what was sent before. nats-py's PING overtakes what it still keeps to be sent,
    so that a subscription was sometimes not there yet.

    A refused subject is told to error_cb as NotPermitted, and the connection goes on; nats-py has no name for it. What
    else the server complains of ends the connection.
    """

    def __init__(self, transport: BusTransport) -> None:
        super().__init__()
        self._transport = transport  # nats-py makes one of its own only where there is none

    async def connect(self, *args: Any, **options: Any) -> None:
        await unswallowed(super().connect(*args, **options))

    async def request(self, *args: Any, **options: Any) -> Msg:
        return await unswallowed(super().request(*args, **options))

    async def flush(self, *args: Any, **options: Any) -> None:
        if not self.is_closed:
            await unswallowed(self._flush_pending(force_flush=True))
        await unswallowed(super().flush(*args, **options))

    async def drain(self) -> None:
        await unswallowed(super().drain())

    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            self._err = NotPermitted(err_msg.strip("'"))
            await self._error_cb(self._err)
        else:
            await super()._process_err(err_msg)
