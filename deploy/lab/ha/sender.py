"""`python -m deploy.lab.ha.sender FILE TARGET` sends a pulse until it is ended, from the namespace it is started in."""

import contextlib
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

from deploy.lab.ha.pulse import CAPACITY, SPACING_S, Pulse

_ECHO = struct.Struct("!BBHHH8sq")
_TIME = struct.Struct("@ll")
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_SOL_RAW, _ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h
_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_HEADER_WORDS = 0x0F


class Sender:
    """Sends and listens; a token in each packet tells its answers from those of others."""

    def __init__(self, pulse: Pulse, target: str) -> None:
        self._pulse = pulse
        self._target = target
        self._token = os.urandom(8)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        others = ~(1 << _ECHO_REPLY) & 0xFFFFFFFF
        self._socket.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", others))

    def run(self) -> None:
        due = time.monotonic()
        while self._pulse.count < CAPACITY:
            wait = due - time.monotonic()
            if wait <= 0:
                self._send()
                due = max(due + SPACING_S, time.monotonic())  # what was late is not made up for by a burst
            elif select.select([self._socket], [], [], wait)[0]:
                self._listen()

    def _send(self) -> None:
        number = self._pulse.sends(time.time_ns())
        identifier = int.from_bytes(self._token[:2], "big")
        packet = _ECHO.pack(_ECHO_REQUEST, 0, 0, identifier, number & 0xFFFF, self._token, number)
        with contextlib.suppress(OSError):  # without a way to the target it is a request without an answer
            self._socket.sendto(packet[:2] + _checksum(packet) + packet[4:], (self._target, 0))

    def _listen(self) -> None:
        packet, ancillary, _, _ = self._socket.recvmsg(256, 64)
        answer = packet[4 * (packet[0] & _HEADER_WORDS) :]
        if len(answer) < _ECHO.size:
            return
        kind, _, _, _, _, token, number = _ECHO.unpack_from(answer)
        if kind == _ECHO_REPLY and token == self._token:
            for level, what, data in ancillary:
                if (level, what) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    seconds, nanoseconds = _TIME.unpack_from(data)
                    self._pulse.hears(number, seconds * 1_000_000_000 + nanoseconds)


def _checksum(packet: bytes) -> bytes:
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


if __name__ == "__main__":
    Sender(Pulse(Path(sys.argv[1])), sys.argv[2]).run()
