"""What the agent is told on starting: WHIMBREL_<NAME> in its environment, put there by `whimbrel up`."""

from pathlib import Path
from typing import Annotated

import msgspec

from services.agent.core.kernel import INTERFACE, LISTEN_PORT
from shared.log import Format, Level


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Run the agent of this host: `whimbrel up` is how it is started.

    bus: tls:// or nats:// addresses, comma separated. bus_ca: PEM file of whom to trust, the system's authorities by
    default. setup_key_file: wins over setup_key; may be a pipe, /dev/fd/N, so that the key stays out of this process's
    environment. socket: /run/whimbrel/<interface>.sock when not given. port: WireGuard's. metrics_port: port on
    loopback for Prometheus, none by default.
    """

    bus: str = "nats://127.0.0.1:4222"
    bus_ca: Path | None = None
    setup_key: str = ""
    setup_key_file: Path | None = None
    hostname: str = ""
    interface: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,14}$")] = INTERFACE
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = LISTEN_PORT
    state_dir: Path = Path("/var/lib/whimbrel")
    socket: Path | None = None
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    log_level: Level = "info"
    log_format: Format = "auto"

    @property
    def control_socket(self) -> Path:
        return self.socket or Path("/run/whimbrel") / f"{self.interface}.sock"

    def __repr__(self) -> str:
        return f"Settings(bus={self.bus!r}, interface={self.interface!r}, state_dir={str(self.state_dir)!r})"
