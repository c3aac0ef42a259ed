"""ICMP echo over raw sockets: the question of a probe goes out, and whose kernel gets it answers.

The kernel hands over nothing but echo replies with our identifier, with the time at which each came in: whoever reads
late still knows how long it took. Not ping sockets: whether those may be used is a setting of the host.
"""

import contextlib
import errno
import os
import socket
import struct
import time
from ctypes import addressof, create_string_buffer

from services.agent.core.intervals import Version
from services.agent.core.kernel import CONTROL_MARK
from services.agent.ports import Heard

SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35
SOL_RAW = 255
ICMP_FILTER, ICMP6_FILTER = 1, 1
ICMP_ECHOREPLY, ICMPV6_ECHO_REPLY = 0, 129

RECEIVE_BYTES = 256
RECEIVE_BUFFER = 1 << 20
AT_ONCE = 512

_TIMESPEC = struct.Struct("@ll")
_FAMILIES: dict[Version, tuple[socket.AddressFamily, int]] = {
    4: (socket.AF_INET, socket.IPPROTO_ICMP),
    6: (socket.AF_INET6, socket.IPPROTO_ICMPV6),
}
_MADE_ANEW = (errno.ENODEV, errno.ENETUNREACH, errno.ENXIO, errno.EADDRNOTAVAIL)
"""What sending says when the interface that the socket is bound to is another one of the same name by now."""


class Icmp:
    """identifier: of the questions. interface: the only one they leave by, "" for where the host's own routes lead.

    They carry CONTROL_MARK: no rule of the overlay leads them anywhere, and our table knows their answers.
    """

    def __init__(self, identifier: int, interface: str = "") -> None:
        self._interface = interface
        self._sockets: dict[Version, socket.socket] = {}
        self._bound = set[Version]()
        for version, (family, protocol) in _FAMILIES.items():
            with contextlib.suppress(OSError):  # a kernel without IPv6, or no right to
                self._sockets[version] = _opened(family, protocol, identifier)

    def filenos(self) -> tuple[int, ...]:
        return tuple(each.fileno() for each in self._sockets.values())

    def send(self, address: str, message: bytes) -> str:
        """Send an ICMP message; gives "", or why it did not leave this host."""
        version: Version = 6 if ":" in address else 4
        if version not in self._sockets:
            return os.strerror(errno.EAFNOSUPPORT)
        try:
            try:
                self._bind(version)
                self._sockets[version].sendto(message, (address, 0))
            except OSError as problem:
                if problem.errno not in _MADE_ANEW or not self._interface:
                    raise
                self._bound.discard(version)
                self._bind(version)
                self._sockets[version].sendto(message, (address, 0))
        except OSError as problem:
            return problem.strerror or str(problem)
        return ""

    def read(self) -> list[Heard]:
        """What has come in, without waiting."""
        heard = list[Heard]()
        wall_to_monotonic = time.monotonic() - time.time()
        for version, each in self._sockets.items():
            with contextlib.suppress(BlockingIOError):
                for _ in range(AT_ONCE):
                    data, ancillary, _, sender = each.recvmsg(RECEIVE_BYTES, 64)
                    now = time.monotonic()
                    at = min(now, max((_seconds(text) for _, _, text in ancillary), default=now) + wall_to_monotonic)
                    heard.append(Heard(sender[0], data[(data[0] & 0xF) * 4 :] if version == 4 else data, at))
        return heard

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()

    def _bind(self, version: Version) -> None:
        if self._interface and version not in self._bound:
            name = self._interface.encode()
            self._sockets[version].setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            self._bound.add(version)


def _seconds(timespec: bytes) -> float:
    seconds, nanoseconds = _TIMESPEC.unpack(timespec)
    return float(seconds + nanoseconds / 1e9)


def _opened(family: socket.AddressFamily, protocol: int, identifier: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    if family == socket.AF_INET:
        opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~(1 << ICMP_ECHOREPLY) & 0xFFFFFFFF))
    else:
        blocked = [0xFFFFFFFF] * 8
        blocked[ICMPV6_ECHO_REPLY >> 5] &= ~(1 << (ICMPV6_ECHO_REPLY & 31))
        opened.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *blocked))
    _filter(opened, identifier)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, CONTROL_MARK)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return opened


def _filter(opened: socket.socket, identifier: int) -> None:
    """Have the kernel hand over only messages with the identifier (linux/filter.h, classic BPF).

    A raw socket of IPv4 sees the packet with its IP header, one of IPv6 without.
    """
    load_header_length, load_half, load_half_behind, equals, answer = 0xB1, 0x28, 0x48, 0x15, 0x06
    load = [(load_half, 0, 0, 4)]
    if opened.family == socket.AF_INET:
        load = [(load_header_length, 0, 0, 0), (load_half_behind, 0, 0, 4)]
    steps = [*load, (equals, 0, 1, identifier), (answer, 0, 0, 0xFFFFFFFF), (answer, 0, 0, 0)]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = create_string_buffer(code, len(code))
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(steps), addressof(program)))
