"""`python -m deploy.nats`: what a bus and its services need before they start, each in a folder of its own.

A second run changes nothing: seeds are made on first use only. Several nodes are a cluster: each needs its own folder
at the same path on its machine, its name must lead the others to it, and port 6222 is for them alone, since what they
tell each other is not encrypted.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from shared import files
from shared.bus.embedded.certificate import Certificate
from shared.bus.embedded.config import Node, cluster_password, credentials, render
from shared.bus.reached import Reached
from shared.errors import CorruptFile
from shared.net.listen import Listen

CONFIG = "server.conf"

HOLDS = {
    "management": ("management", "system", "issuer", "callout"),
    "signal": ("signal",),
    "resolver": ("resolver",),
}
"""Service → seeds it reads. The server itself needs none: its configuration holds public keys."""

CLUSTER_PORT = 6222


def prepare(
    seeds: Path,
    handed_out: Path,
    data: Path,
    nodes: Sequence[str],
    host: str,
    port: int,
    bus_cert: Path | None = None,
    bus_key: Path | None = None,
    remembered: Path | None = None,
) -> None:
    """Keep all seeds in `seeds`, put each service's in <handed_out>/<service>, and write <data>/<node>/server.conf.

    remembered: folder where management remembers how far the log has come; by default that of its seeds.
    bus_cert, bus_key: where the servers find their certificate; without them they speak plain text.
    """
    keys = credentials(seeds)
    for service, roles in HOLDS.items():
        folder = handed_out / service
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for role in roles:
            _put(folder / f"{role}.nk", getattr(keys, role) + "\n")
    if remembered is not None:
        remembered.mkdir(mode=0o700, parents=True, exist_ok=True)
    Reached(seeds).hand_over(Reached(remembered or handed_out / "management"))
    tls = Certificate(cert=bus_cert, key=bus_key) if bus_cert and bus_key else None
    for name in nodes:
        folder = data / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        node = _node(name, nodes, host, seeds) if len(nodes) > 1 else None
        config = render(keys, store=_store(folder, node), host=host, port=port, tls=tls, node=node)
        # As a server may be starting with it, it must never be partly there.
        _put(folder / CONFIG, config)


def _put(file: Path, text: str) -> None:
    """What is there already is not written: a stack whose disk is full comes up all the same."""
    if not file.is_file() or file.read_text() != text:
        files.write(file, text.encode())


def _store(folder: Path, node: Node | None) -> Path:
    """Where the server keeps its streams.

    A member of a cluster throws away what a server kept that was alone, and keeps what that one does not know: each has
    a folder of its own, so that a move that was not prepared for loses nothing and can be taken back.
    """
    store = folder / "store"
    of_a_member = any(store.glob("jetstream/*/_js_/_meta_"))
    if not store.exists() or of_a_member == (node is not None):
        return store
    return folder / ("store-of-a-member" if node else "store-alone")


def _node(name: str, nodes: Sequence[str], host: str, seeds: Path) -> Node:
    return Node(
        name=name,
        listen=Listen(host, CLUSTER_PORT),
        members=tuple(Listen(member, CLUSTER_PORT) for member in nodes),
        password=cluster_password(seeds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", type=Path, required=True, help="folder of all seeds")
    parser.add_argument("--handed-out", type=Path, required=True, help="folder with a folder for each service")
    parser.add_argument(
        "--remembered",
        type=Path,
        help="folder in which management remembers how far the log has come, by default that of its seeds",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with a folder for each node: its configuration and streams"
    )
    parser.add_argument(
        "--nodes", type=_names, default=("bus",), help="host names of the servers: bus, or bus-1,bus-2,bus-3"
    )
    parser.add_argument("--host", default="0.0.0.0", help="address the servers listen on")
    parser.add_argument("--port", type=int, default=4222, help="port the servers listen on")
    cert, key = (os.environ.get(name) or None for name in ("WHIMBREL_BUS_CERT", "WHIMBREL_BUS_KEY"))
    parser.add_argument(
        "--bus-cert", type=Path, default=cert, help="certificate of the servers, where they see it (WHIMBREL_BUS_CERT)"
    )
    parser.add_argument("--bus-key", type=Path, default=key, help="its key, where they see it (WHIMBREL_BUS_KEY)")
    given = parser.parse_args()
    if (given.bus_cert is None) != (given.bus_key is None):
        parser.error("give --bus-cert and --bus-key together")
    try:
        prepare(**vars(given))
    except OSError as problem:
        owned = f": its folder has to be user {os.geteuid()}'s" if isinstance(problem, PermissionError) else ""
        parser.exit(1, f"error: {problem.filename}: {problem.strerror}{owned}\n")
    except CorruptFile as problem:
        parser.exit(1, f"error: {problem}\n")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    main()
