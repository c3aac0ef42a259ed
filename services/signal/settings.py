"""What the signal service may be told."""

from pathlib import Path
from typing import Annotated

import msgspec

from shared.log import Format, Level


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Introduces peers to each other and says who is connected.

    bus: nats:// addresses, comma separated. credentials: file with the service's nkey seed. metrics_port: port on
    loopback for Prometheus, none by default.

    Example: whimbrel signal --bus nats://10.0.0.1:4222 --credentials keys/signal.nk
    """

    bus: str
    credentials: Path
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    log_level: Level = "info"
    log_format: Format = "auto"
