"""`python -m tests.bench.ha.jitter ONE OTHER MILLISECONDS` carries frames between two interfaces of its namespace.

It says so once it does. It holds each UDP datagram back for a random time of at most so long, each for its own, so that
they overtake each other; everything else passes at once. A frame travels with what its sender left to the hardware
(checksum, segments), as PACKET_VNET_HDR has it.
"""

import heapq
import random
import select
import socket
import sys
import time

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23  # linux/if_packet.h
_VNET_HEADER, _ETHERNET = 10, 14
_FRAME_LIMIT = 1 << 17
_UDP = 17


def carry(one: str, other: str, most_s: float) -> None:
    """Until the process ends."""
    left, right = _opened(one), _opened(other)
    towards = {left: right, right: left}
    print("carries", flush=True)
    held: list[tuple[float, int, socket.socket, bytes]] = []
    number = 0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for readable in select.select([left, right], [], [], wait)[0]:
            frame = readable.recv(_FRAME_LIMIT)
            delay = random.uniform(0.0, most_s) if _is_udp(frame[_VNET_HEADER:]) else 0.0
            number += 1
            heapq.heappush(held, (time.monotonic() + delay, number, towards[readable], frame))
        while held and held[0][0] <= time.monotonic():
            *_, out, frame = heapq.heappop(held)
            out.send(frame)


def _opened(interface: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    opened.bind((interface, _ETH_P_ALL))
    return opened


def _is_udp(frame: bytes) -> bool:
    kind, packet = frame[_ETHERNET - 2 : _ETHERNET], frame[_ETHERNET:]
    return (kind == b"\x08\x00" and packet[9] == _UDP) or (kind == b"\x86\xdd" and packet[6] == _UDP)


if __name__ == "__main__":
    carry(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000)
