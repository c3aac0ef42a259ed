"""A service's connection to the bus."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client, Server

from shared.bus.address import parse_bus
from shared.bus.client import BusClient
from shared.bus.patience import Patience, Trouble
from shared.bus.transport import BusTransport
from shared.events import subjects

PING_EVERY_S = 5
"""A server that hangs, or whose machine vanished, counts as lost after three of these."""

CONNECT_TIMEOUT_S = 5.0
"""For each step of connecting, on a machine that is busy as well."""

UNANSWERED = "the bus does not answer"


class _Reconnecting:
    """What nats-py asks and tells while the bus is away."""

    def __init__(self, on_disconnect: Callable[[], Awaitable[None]] | None) -> None:
        self.patience = Patience(Trouble("bus trouble", "the bus is back"), (TimeoutError, OSError, nats.errors.Error))
        self._on_disconnect = on_disconnect

    def __call__(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        wait_s = self.patience.next_wait_s()
        return servers[self.patience.failures % len(servers)], wait_s

    async def report(self, problem: Exception) -> None:
        self.patience.trouble.tell(problem)

    async def lost(self) -> None:
        self.patience.trouble.begin()
        if self._on_disconnect is not None:
            await self._on_disconnect()

    async def back(self) -> None:
        self.patience.worked()


async def connect(
    url: str,
    seed: str,
    role: str,
    *,
    ca: Path | None = None,
    name: str = "",
    on_disconnect: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """A connection that is never given up: tries until the bus answers, and again after each loss.

    url, ca, name: as shared.bus.address.parse_bus takes them; raises BadSetting for what makes no sense.
    seed: nkey seed of the service user. role: names the connection and its inbox, as in the server's permissions.
    """
    bus = parse_bus(url, ca, name)
    reconnecting = _Reconnecting(on_disconnect)

    async def attempt() -> Client:
        client = BusClient(BusTransport(bus))
        await client.connect(
            list(bus.urls),
            name=role,
            nkeys_seed_str=seed,
            inbox_prefix=subjects.inbox(role),
            error_cb=reconnecting.report,
            reconnected_cb=reconnecting.back,
            disconnected_cb=reconnecting.lost,
            reconnect_to_server_handler=reconnecting,
            max_reconnect_attempts=-1,
            ping_interval=PING_EVERY_S,
            max_outstanding_pings=2,
            pending_size=64 * 1024 * 1024,
            allow_reconnect=True,
            connect_timeout=CONNECT_TIMEOUT_S,
        )
        return client

    return await reconnecting.patience.done(attempt)


def troubles(connection: Client | None) -> Sequence[str]:
    """Why a service over this connection does not do its work: the bus is away, or was never there (None)."""
    return () if connection is not None and connection.is_connected else (UNANSWERED,)
