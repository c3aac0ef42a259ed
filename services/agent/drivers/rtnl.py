"""What links, routes and rules have in common on rtnetlink: families, prefixes and interface names."""

import ipaddress
import socket

from services.agent.core.kernel import Family

AF: dict[Family, int] = {"v4": int(socket.AF_INET), "v6": int(socket.AF_INET6)}
FAMILY: dict[int, Family] = {number: family for family, number in AF.items()}


def family_of(address: str) -> Family:
    return "v6" if ":" in address else "v4"


def pack_prefix(prefix: str) -> tuple[int, bytes, int]:
    """Family number, address bytes, length of "10.0.0.0/8"; an address without a length is a whole one."""
    address, _, length = prefix.partition("/")
    family = AF[family_of(address)]
    packed = socket.inet_pton(family, address)
    return family, packed, int(length) if length else 8 * len(packed)


def prefix_text(family: int, packed: bytes | memoryview, length: int) -> str:
    """Canonical text of a prefix, or of an address with its prefix length. `packed` is b"" for the default route."""
    if not packed:
        return "0.0.0.0/0" if family == socket.AF_INET else "::/0"
    return f"{address_text(family, packed)}/{length}"


def address_text(family: int, packed: bytes | memoryview) -> str:
    address = socket.inet_ntop(family, packed)
    if family == socket.AF_INET6 and "." in address:  # inet_ntop writes ::a.b.c.d where everything else writes hex
        return str(ipaddress.IPv6Address(bytes(packed)))
    return address


def index_of(device: str) -> int | None:
    """The interface's index, None when there is no such interface."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return None


def name_of(index: int) -> str:
    """The interface's name, "" when there is no such interface any more."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
