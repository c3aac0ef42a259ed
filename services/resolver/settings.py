"""What the resolver may be told."""

from pathlib import Path
from typing import Annotated

import msgspec

from services.resolver.core.answers import KEEP_MAX_AGE_S
from services.resolver.core.schedule import INTERVAL_S
from shared.log import Format, Level
from shared.metrics import LOOPBACK
from shared.settings import Seconds


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Turns the names of domain routes into addresses.

    bus: tls:// or nats:// addresses, comma separated. bus_ca: PEM file of whom to trust, the system's authorities by
    default. bus_name: what the certificate of the bus is for, where that is not the host in bus. credentials: file with
    the service's nkey seed. dns_router_interval: time between two look-ups of a name, at least 2 s; in seconds, or with
    a unit as in 5m. keep_max_age: how long a route with keep_route holds an address after it was last seen, as in 7d; 0
    for ever. dns_servers: "address", "address:port" or "[address]:port", comma separated, "tls://address#name" for one
    that is asked over TLS and has a certificate for that name; those of /etc/resolv.conf by default. dns_ca: PEM file
    of whom to trust there, the system's authorities by default. metrics_port: port of /metrics and /healthz, none by
    default. metrics_host: the address that has it, loopback by default.

    Example: whimbrel resolver --bus tls://bus.example.com:4222 --credentials keys/resolver.nk
    """

    bus: str
    bus_ca: Path | None = None
    bus_name: str = ""
    credentials: Path
    dns_router_interval: Seconds = INTERVAL_S
    keep_max_age: Seconds = KEEP_MAX_AGE_S
    dns_servers: tuple[str, ...] = ()
    dns_ca: Path | None = None
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    metrics_host: str = LOOPBACK
    log_level: Level = "info"
    log_format: Format = "auto"
