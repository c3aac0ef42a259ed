"""What the signal service may be told."""

from pathlib import Path
from typing import Annotated

import msgspec

from shared.log import Format, Level
from shared.metrics import LOOPBACK


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Introduces peers to each other and says who is connected.

    bus: tls:// or nats:// addresses, comma separated. bus_ca: PEM file of whom to trust, the system's authorities by
    default. bus_name: what the certificate of the bus is for, where that is not the host in bus. credentials: file with
    the service's nkey seed. metrics_port: port of /metrics and /healthz, none by default. metrics_host: the
    address that has it, loopback by default.

    Example: whimbrel signal --bus tls://bus.example.com:4222 --credentials keys/signal.nk
    """

    bus: str
    bus_ca: Path | None = None
    bus_name: str = ""
    credentials: Path
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    metrics_host: str = LOOPBACK
    log_level: Level = "info"
    log_format: Format = "auto"
