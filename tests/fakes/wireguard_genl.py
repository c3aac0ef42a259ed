"""The kernel's side of WireGuard's generic netlink, for hosts whose kernel lacks it.

It reads and writes bytes as linux/wireguard.h describes them and keeps the rules that it states: an allowed IP belongs
to one peer, replacing empties the list first, removing wins over everything else. What a caller of pyroute2 sends here
is encoded by pyroute2 and decoded here by hand, and the other way round for answers.
"""

import errno
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from nacl.public import PrivateKey
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.wireguard import AsyncWireGuard, wgmsg

NESTED = 0x8000
REMOVE_ME, REPLACE_ALLOWEDIPS, UPDATE_ONLY = 1, 2, 4
IN_ONE_MESSAGE = 3
"""Allowed IPs of a peer in one message of an answer; the kernel takes as many as fit in a page."""


class Peer:
    def __init__(self) -> None:
        self.endpoint = b""
        self.keepalive = 0
        self.allowed: set[tuple[int, bytes, int]] = set()


class KernelWireGuard(AsyncWireGuard):  # type: ignore[misc]
    """Stands where the driver has pyroute2's AsyncWireGuard. sent: how many messages have changed something.

    refused: keys of peers that cannot be made.
    """

    prid = 42

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._private_key = b""
        self._port = 0
        self._mark = 0
        self._peers: dict[bytes, Peer] = {}
        self._error = 0
        self.sent = 0
        self.refused: set[bytes] = set()

    @property
    def pid(self) -> int:
        return 1

    async def setup_endpoint(self) -> None:
        pass

    def sendto(self, data: bytes, _address: tuple[int, int]) -> None:
        self.sent += 1
        self._error = self._take(dict(_attributes(bytes(data)[20:])))

    async def get(self) -> AsyncIterator[dict[str, Any]]:
        yield {"header": {"error": NetlinkError(self._error) if self._error else None}}

    async def nlm_request(self, message: Any, **_: Any) -> AsyncIterator[Any]:
        message.encode()
        asked = dict(_attributes(bytes(message.data)[20:]))[2].rstrip(b"\0").decode()
        if asked != self._interface:
            raise NetlinkError(errno.ENODEV)
        return self._answers()

    async def _answers(self) -> AsyncIterator[Any]:
        parts = [part for key, peer in self._peers.items() for part in _describe(key, peer)] or [b""]
        for number, part in enumerate(parts):
            body = self._device() if number == 0 else b""
            body += _attribute(8 | NESTED, _attribute(0 | NESTED, part)) if part else b""
            header = struct.pack("=IHHII", 20 + len(body), self.prid, 2, 0, 0) + bytes((0, 1, 0, 0))
            answer = wgmsg(header + body)
            answer.decode()
            yield answer

    def _device(self) -> bytes:
        keys = b""
        if self._private_key:
            public = bytes(PrivateKey(self._private_key).public_key)
            keys = _attribute(3, self._private_key) + _attribute(4, public)
        port = _attribute(6, struct.pack("=H", self._port))
        return (
            _attribute(2, self._interface.encode() + b"\0") + keys + port + _attribute(7, struct.pack("=I", self._mark))
        )

    def _take(self, device: dict[int, bytes]) -> int:
        if device[2].rstrip(b"\0").decode() != self._interface:
            return errno.ENODEV
        self._private_key = device.get(3, self._private_key)
        self._port = struct.unpack("=H", device[6])[0] if 6 in device else self._port
        self._mark = struct.unpack("=I", device[7])[0] if 7 in device else self._mark
        for _, peer in _attributes(device.get(8, b"")):
            if error := self._take_peer(dict(_attributes(peer))):
                return error
        return 0

    def _take_peer(self, wanted: dict[int, bytes]) -> int:
        key, flags = wanted[1], struct.unpack("=I", wanted[3])[0] if 3 in wanted else 0
        if flags & REMOVE_ME:
            self._peers.pop(key, None)
            return 0
        if key not in self._peers and flags & UPDATE_ONLY:
            return 0
        if key in self.refused:
            return errno.ENOMEM
        peer = self._peers.setdefault(key, Peer())
        peer.endpoint = wanted.get(4, peer.endpoint)
        if flags & REPLACE_ALLOWEDIPS:
            peer.allowed.clear()
        for _, nested in _attributes(wanted.get(9, b"")):
            allowed = dict(_attributes(nested))
            entry = struct.unpack("=H", allowed[1])[0], allowed[2], allowed[3][0]
            if entry[2] > 8 * len(entry[1]):
                return errno.EINVAL
            for other in self._peers.values():
                other.allowed.discard(entry)
            peer.allowed.add(entry)
        peer.keepalive = struct.unpack("=H", wanted[5])[0] if 5 in wanted else peer.keepalive
        return 0


def _describe(key: bytes, peer: Peer) -> Iterator[bytes]:
    """What the answers say of a peer: the first part everything, later ones its key and more allowed IPs."""
    allowed = sorted(peer.allowed)
    for at in range(0, max(len(allowed), 1), IN_ONE_MESSAGE):
        body = _attribute(1, key)
        if at == 0:
            body += _attribute(2, bytes(32)) + _attribute(6, struct.pack("=qq", 1_700_000_000, 500_000_000))
            body += _attribute(5, struct.pack("=H", peer.keepalive))
            body += _attribute(8, struct.pack("=Q", 20)) + _attribute(7, struct.pack("=Q", 10))
            body += _attribute(10, struct.pack("=I", 1))
            body += _attribute(4, peer.endpoint) if peer.endpoint else b""
        nested = [
            _attribute(1, struct.pack("=H", family)) + _attribute(2, packed) + _attribute(3, bytes((length,)))
            for family, packed, length in allowed[at : at + IN_ONE_MESSAGE]
        ]
        yield body + _attribute(9 | NESTED, b"".join(_attribute(0 | NESTED, one) for one in nested))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3
