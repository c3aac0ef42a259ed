"""ARP and neighbour discovery as frames: who has an address, this host has it, and who else says so.

ARP: RFC 826, and RFC 5227 for the question that names no sender. Neighbour discovery: RFC 4861. Kernels answer both.
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

ETH_ARP, ETH_IPV6 = 0x0806, 0x86DD
_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
"""hardware type, protocol, their lengths, operation, sender's MAC and address, target's MAC and address."""
_REQUEST = 1
_IPV6 = struct.Struct("!IHBB16s16s")
_ICMPV6, _HOPS = 58, 255
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK, _TARGET_LINK = 1, 2
_OVERRIDE = 0x20000000
_NOWHERE = bytes(6)
_EVERYBODY = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1").packed

_LD_W_ABS, _LD_B_ABS, _JEQ, _RETURN = 0x20, 0x30, 0x15, 0x06


def protocol(address: str) -> int:
    """The Ethernet type of what is said about the address."""
    return ETH_IPV6 if ":" in address else ETH_ARP


def question(address: str, mac: bytes, source: str, to: bytes | None) -> bytes:
    """The frame that asks who has the address. mac: of this host's interface. to: whom to ask, None for everybody.

    source: a link-local address of the interface for IPv6; without it, and always for IPv4, the question names no
    sender and changes nobody's cache.
    """
    if ":" not in address:
        return _arp(to or _EVERYBODY, mac, bytes(4), ip_address(address).packed)
    target = ip_address(address).packed
    group = bytes.fromhex("ff0200000000000000000001ff") + target[-3:]
    sender = IPv6Address(source or "::").packed
    link = _option(_SOURCE_LINK, mac) if source else b""
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + target + link
    return _icmpv6(to or _multicast(group), mac, sender, group, body)


def announcement(address: str, mac: bytes, *, routes: bool) -> bytes:
    """The frame that tells everybody that this host has the address now. routes: whether it is a router (IPv6)."""
    packed = ip_address(address).packed
    if ":" not in address:
        return _arp(_EVERYBODY, mac, packed, packed)
    flags = _OVERRIDE | (0x80000000 if routes else 0)
    body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, flags) + packed + _option(_TARGET_LINK, mac)
    return _icmpv6(_multicast(_ALL_NODES), mac, packed, _ALL_NODES, body)


def claimed_by(frame: bytes, address: str) -> bytes | None:
    """The MAC of who says in this frame to have the address; None when it is about something else, or broken."""
    if len(frame) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(frame)
    packed, body = ip_address(address).packed, frame[_ETHERNET.size :]
    if kind == ETH_ARP and len(packed) == 4 and len(body) >= _ARP.size:
        _, _, _, _, _, sender, sender_address, _, _ = _ARP.unpack_from(body)
        return bytes(sender) if sender_address == packed else None
    if kind == ETH_IPV6 and len(packed) == 16 and len(body) >= _IPV6.size + 24:
        _, _, protocol_number, hops, _, _ = _IPV6.unpack_from(body)
        said = body[_IPV6.size :]
        is_advertised = (protocol_number, hops, said[0]) == (_ICMPV6, _HOPS, _ADVERTISEMENT)
        return bytes(source) if is_advertised and said[8:24] == packed else None
    return None


def filter_of(address: str) -> bytes:
    """The classic BPF program that lets the kernel drop every frame that `claimed_by` would say nothing of."""
    packed = ip_address(address).packed
    words = [int.from_bytes(packed[at : at + 4], "big") for at in range(0, len(packed), 4)]
    ethernet = _ETHERNET.size
    if len(words) == 1:
        tests = [(_LD_W_ABS, ethernet + 14, words[0])]
    else:
        tests = [
            (_LD_B_ABS, ethernet + 6, _ICMPV6),
            (_LD_B_ABS, ethernet + _IPV6.size, _ADVERTISEMENT),
            *((_LD_W_ABS, ethernet + _IPV6.size + 8 + 4 * number, word) for number, word in enumerate(words)),
        ]
    return b"".join(_program(tests))


def _program(tests: list[tuple[int, int, int]]) -> Iterator[bytes]:
    """tests: how to load, from where, and what has to be there."""
    instruction = struct.Struct("=HBBI")
    for number, (load, offset, value) in enumerate(tests):
        yield instruction.pack(load, 0, 0, offset)
        yield instruction.pack(_JEQ, 0, 2 * (len(tests) - number) - 1, value)
    yield instruction.pack(_RETURN, 0, 0, 0xFFFF)
    yield instruction.pack(_RETURN, 0, 0, 0)


def _arp(to: bytes, mac: bytes, sender: bytes, target: bytes) -> bytes:
    said = _ARP.pack(1, 0x0800, 6, 4, _REQUEST, mac, sender, _NOWHERE, target)
    return _ETHERNET.pack(to, mac, ETH_ARP) + said


def _option(kind: int, mac: bytes) -> bytes:
    return bytes((kind, 1)) + mac


def _multicast(group: bytes) -> bytes:
    return b"\x33\x33" + group[-4:]


def _icmpv6(to: bytes, mac: bytes, source: bytes, destination: bytes, body: bytes) -> bytes:
    pseudo = source + destination + struct.pack("!IHBB", len(body), 0, 0, _ICMPV6)
    total = sum(struct.unpack(f"!{(len(pseudo) + len(body)) // 2}H", pseudo + body))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    summed = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
    header = _IPV6.pack(0x60000000, len(body), _ICMPV6, _HOPS, source, destination)
    return _ETHERNET.pack(to, mac, ETH_IPV6) + header + summed
