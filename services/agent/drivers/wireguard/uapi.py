"""WireGuard's text protocol for devices in user space: one message, one answer, over a Unix socket.

https://www.wireguard.com/xplatform/. Keys are hexadecimal there and base64 everywhere else.
"""

import asyncio
import base64
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from nacl.public import PrivateKey

from services.agent.core.kernel import PeerStats, WireGuardDevice, WireGuardPeer
from services.agent.drivers.wireguard.changes import PeerChange

ANSWER_WITHIN_S = 5.0
CHUNK = 1 << 16

OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors that say what this process lacks, and nothing of who listens."""

Fields: TypeAlias = list[tuple[str, str]]
"""Lines in order: the device's, then each peer's, which begin with its public_key."""


class Silent(Exception):
    """Start the device anew: nothing answers at its socket."""


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises Silent when nobody listens, OSError when this process cannot even try, as all of these functions do."""
    try:
        return await asyncio.open_unix_connection(path)
    except OSError as problem:
        if problem.errno in OUT_OF:
            raise
        raise Silent from None


async def get(path: Path) -> Fields:
    """Everything the device says of itself."""
    answer = await _transact(path, "get=1\n\n")
    return [(key, value) for key, _, value in (line.partition("=") for line in answer.strip().split("\n"))]


async def set_(path: Path, lines: Iterable[tuple[str, str]]) -> str | None:
    """Do what the lines say, up to the first bad one. The error, None when all is done."""
    answer = await _transact(path, "set=1\n" + "".join(f"{key}={value}\n" for key, value in lines) + "\n")
    number = int(answer.strip().removeprefix("errno="))
    return os.strerror(abs(number)) if number else None


async def _transact(path: Path, message: str) -> str:
    answer = b""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await connect(path)
            try:
                writer.write(message.encode())
                while not answer.endswith(b"\n\n"):
                    part = await reader.read(CHUNK)
                    if not part:
                        raise Silent
                    answer += part
            finally:
                writer.close()
    except (ConnectionError, TimeoutError):
        raise Silent from None
    return answer.decode()


def change_lines(change: PeerChange) -> Fields:
    if change.remove:
        return [("public_key", _hex(change.public_key)), ("remove", "true")]
    lines = [("public_key", _hex(change.public_key))]
    if change.only_known:
        lines.append(("update_only", "true"))
    lines.append(("persistent_keepalive_interval", str(change.keepalive_s)))
    if change.endpoint:
        lines.append(("endpoint", change.endpoint))
    if change.replace:
        lines.append(("replace_allowed_ips", "true"))
    return lines + [("allowed_ip", ip) for ip in change.add]


def device(fields: Fields) -> WireGuardDevice:
    first_peer = next((at for at, (key, _) in enumerate(fields) if key == "public_key"), len(fields))
    own = dict(fields[:first_peer])
    return WireGuardDevice(
        public_key=public_key(bytes.fromhex(own["private_key"])) if "private_key" in own else "",
        listen_port=int(own.get("listen_port", 0)),
        fwmark=int(own.get("fwmark", 0)),
    )


def peers(fields: Fields) -> dict[str, WireGuardPeer]:
    return {
        key: WireGuardPeer(
            public_key=key,
            allowed_ips=_allowed_ips(found),
            endpoint=dict(found).get("endpoint", ""),
            keepalive_s=int(dict(found).get("persistent_keepalive_interval", 0)),
        )
        for key, found in _by_peer(fields)
    }


def stats(fields: Fields) -> dict[str, PeerStats]:
    return {key: _stats(dict(found), _allowed_ips(found)) for key, found in _by_peer(fields)}


def _stats(values: Mapping[str, str], allowed_ips: frozenset[str]) -> PeerStats:
    seconds, rest = values.get("last_handshake_time_sec", 0), values.get("last_handshake_time_nsec", 0)
    return PeerStats(
        endpoint=values.get("endpoint", ""),
        last_handshake=int(seconds) + int(rest) / 1e9,
        rx_bytes=int(values.get("rx_bytes", 0)),
        tx_bytes=int(values.get("tx_bytes", 0)),
        allowed_ips=allowed_ips,
    )


def _allowed_ips(found: Fields) -> frozenset[str]:
    return frozenset(value for name, value in found if name == "allowed_ip")


def _by_peer(fields: Fields) -> list[tuple[str, Fields]]:
    found: list[tuple[str, Fields]] = []
    for key, value in fields:
        if key == "public_key":
            found.append((base64.b64encode(bytes.fromhex(value)).decode(), []))
        elif found:
            found[-1][1].append((key, value))
    return found


def public_key(private_key: bytes) -> str:
    """The base64 public key of a private one."""
    return base64.b64encode(bytes(PrivateKey(private_key).public_key)).decode()


def _hex(key: str) -> str:
    return base64.b64decode(key).hex()
