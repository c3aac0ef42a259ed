"""IP packets as bytes, with every checksum right: connection tracking looks at them."""

import socket
import struct
from ipaddress import ip_address

UDP, TCP, ICMP, ICMPV6 = 17, 6, 1, 58
FIN, SYN, ACK = 0x01, 0x02, 0x10
_TTL = 64


def udp(source: str, destination: str, ports: tuple[int, int], payload: bytes) -> bytes:
    return _packet(source, destination, UDP, struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload, 6)


def tcp(source: str, destination: str, ports: tuple[int, int], payload: bytes, flags: int = SYN) -> bytes:
    """The first packet of a TCP connection, or one of another kind."""
    head = struct.pack("!HHIIBBHHH", *ports, 1, 1 if flags & ACK else 0, 5 << 4, flags, 1024, 0, 0)
    return _packet(source, destination, TCP, head + payload, 16)


def echo(source: str, destination: str, identifier: int, payload: bytes) -> bytes:
    """A ping of either family."""
    v6 = ":" in source
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, identifier, 1)
    return _packet(source, destination, ICMPV6 if v6 else ICMP, head + payload, 2)


def unreachable(source: str, destination: str, cause: bytes) -> bytes:
    """The ICMP error that says that nobody listens at the port `cause` is for."""
    v6 = ":" in source
    head = struct.pack("!BBHI", *((1, 4) if v6 else (3, 3)), 0, 0)
    return _packet(source, destination, ICMPV6 if v6 else ICMP, head + cause, 2)


def ends(packet: bytes) -> tuple[str, str]:
    """Source and destination of a packet."""
    if packet[0] >> 4 == 6:
        return socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40])
    return socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])


def _packet(source: str, destination: str, protocol: int, body: bytes, checksum_at: int) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    v6 = ":" in source
    covered = body if protocol == ICMP else addresses + struct.pack("!II", len(body), protocol) + body
    summed = _checksum(covered) or 0xFFFF
    body = body[:checksum_at] + struct.pack("!H", summed) + body[checksum_at + 2 :]
    if v6:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, _TTL) + addresses + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, _TTL, protocol, 0) + addresses
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
