"""What management may be told."""

from pathlib import Path
from typing import Annotated

import msgspec

from shared.log import Format, Level

ROLE = "management"
"""Its name on the bus, and that of its seed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Owns accounts, serves the REST API, admits connections to the bus and writes the feed.

    bus: tls:// or nats:// addresses, comma separated. bus_ca: PEM file of whom to trust, the system's authorities by
    default. bus_name: what the certificate of the bus is for, where that is not the host in bus. credentials: folder
    with the seeds management.nk, system.nk, issuer.nk and callout.nk. remembered: folder in which all replicas remember
    how far the log has come, by default that of the seeds. data_dir: folder of this replica's read model.
    api: address:port of the REST API. admin_token: file for the first owner's token, by default admin.token in the data
    folder. dns_domain: domain of the first account's peers. stream_replicas: copies of each stream, 3 on a cluster of
    three buses; a stream that has more keeps them.

    Example: whimbrel management --bus tls://bus.example.com:4222 --credentials keys --data-dir management
    """

    bus: str
    bus_ca: Path | None = None
    bus_name: str = ""
    credentials: Path
    remembered: Path | None = None
    data_dir: Path
    api: str = "127.0.0.1:8080"
    admin_token: Path | None = None
    dns_domain: str = "whimbrel.internal"
    stream_replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    log_level: Level = "info"
    log_format: Format = "auto"
