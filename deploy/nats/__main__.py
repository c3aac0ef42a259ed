"""`python -m deploy.nats`: what a bus and its services need before they start, each in a folder of its own.

A second run changes nothing: seeds are made on first use only.
"""

import argparse
from pathlib import Path

from shared.bus.certificate import Certificate
from shared.bus.keys import write_secret
from shared.bus.serverconfig import credentials, render

CONFIG = "server.conf"

HOLDS = {
    "management": ("management", "system", "issuer", "callout"),
    "signal": ("signal",),
    "resolver": ("resolver",),
}
"""Service → seeds it reads. The server itself needs none: its configuration holds public keys."""


def prepare(
    seeds: Path, handed_out: Path, data: Path, host: str, port: int, cert: Path | None = None, key: Path | None = None
) -> None:
    """Keep all seeds in `seeds`, put each service's in <handed_out>/<service>, and write <data>/server.conf.

    cert, key: where the server finds its certificate; without them it speaks plain text.
    """
    keys = credentials(seeds)
    for service, roles in HOLDS.items():
        folder = handed_out / service
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role in roles:
            write_secret(folder / f"{role}.nk", getattr(keys, role) + "\n")
    # No secret, but as a server may be starting with it, it must never be partly there.
    tls = Certificate(cert=cert, key=key) if cert and key else None
    write_secret(data / CONFIG, render(keys, store=data / "store", host=host, port=port, tls=tls))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=Path, required=True, help="folder of all seeds")
    parser.add_argument("--handed-out", type=Path, required=True, help="folder with a folder for each service")
    parser.add_argument("--data", type=Path, required=True, help="folder of the server's configuration and streams")
    parser.add_argument("--host", default="0.0.0.0", help="address the server listens on")
    parser.add_argument("--port", type=int, default=4222, help="port the server listens on")
    parser.add_argument("--cert", type=Path, help="certificate of the server, where the server sees it")
    parser.add_argument("--key", type=Path, help="its key, where the server sees it")
    given = parser.parse_args()
    if (given.cert is None) != (given.key is None):
        parser.error("give --cert and --key together")
    prepare(**vars(given))


if __name__ == "__main__":
    main()
