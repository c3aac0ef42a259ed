"""`python -m tests.bench.ha.echoes TARGET STREAMS SECONDS`: ICMP echo as from so many hosts, each every SECONDS.

Each has an identifier of its own. Until SIGINT; then it prints how many percent were answered.
"""

import contextlib
import select
import socket
import struct
import sys
import time

_ECHO = struct.Struct("!BBHHH")
_REQUEST = 8
_IDENTIFIER = slice(24, 26)
"""Behind an IP header without options."""
_SOL_RAW, _ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h
_ONLY_REPLIES = struct.pack("=I", 0xFFFFFFFE)
BUFFER = 4 << 20


def ask(target: str, streams: int, each_s: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.setsockopt(_SOL_RAW, _ICMP_FILTER, _ONLY_REPLIES)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        raw.connect((target, 0))
        raw.setblocking(False)
        packets = [_packet(number) for number in range(streams)]
        sent = answered = 0
        begin = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                due = int((time.monotonic() - begin) * streams / each_s)
                for number in range(sent, due):
                    with contextlib.suppress(BlockingIOError):
                        raw.send(packets[number % streams])
                sent = max(sent, due)
                answered += _taken(raw, streams)
                select.select([], [], [], 0.002)
        print(100 * answered / max(1, sent))


def _taken(raw: socket.socket, streams: int) -> int:
    """How many answers have come in; the socket hears those to other programs' questions as well."""
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while packet := raw.recv(256):
            taken += int.from_bytes(packet[_IDENTIFIER]) < streams
    return taken


def _packet(identifier: int) -> bytes:
    head = _ECHO.pack(_REQUEST, 0, 0, identifier, 0)
    total = sum(struct.unpack("!4H", head))
    return _ECHO.pack(_REQUEST, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, identifier, 0)


if __name__ == "__main__":
    ask(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
