"""Dynamic sets: filled over netlink without libnftables, and taken along when their table is written anew.

Through libnftables one address takes 10 to 80 ms beside 10,000 routes, since it first reads every interval set of the
table; as a message to the kernel eight take 0.1 ms, whatever else is there.
"""

import re
import socket
import struct
from collections.abc import Iterable, Mapping

from services.agent.core.intervals import Range, Version, is_last
from services.agent.core.kernel import NftSet
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Request
from services.agent.drivers.rtnl import AF, family_of

NFPROTO_INET = 1
NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM = 10 << 8 | 12, 10 << 8 | 14
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_TIMEOUT, NFTA_DATA_VALUE = 1, 1, 3, 4, 1
NFT_SET_ELEM_INTERVAL_END = 1
AT_ONCE = 1000
"""Addresses in one transaction: 120 KB, well inside the default send buffer."""

Contents = Mapping[str, tuple[str, ...]]
"""Set name → its elements as nft prints and takes them, "10.0.0.9 timeout 5m expires 4m59s992ms"."""

_SET = re.compile(r"^\tset (\S+) \{\n\t\ttype (.+)\n\t\tflags timeout\n(?:\t\telements = \{([^}]*)\}\n)?\t\}", re.M)
_SPAN = re.compile(r"(\d+)(ms|[dhms])")
_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_ELEMENT = re.compile(r"[^\s,]+ timeout \w+ expires \w+")


def fill_requests(table: str, elements: Mapping[str, Mapping[str, float]]) -> list[Request]:
    """What puts addresses into sets for so many seconds from now: set name → address → seconds. At most AT_ONCE.

    Each is added, removed and added again: before Linux 6.12 an element that is there keeps its timeout, and one that
    is not there cannot be removed.
    """
    requests = []
    for name, timeouts in elements.items():
        plain = _body(table, name, map(_element, timeouts))
        timed = _body(table, name, (_element(address, timeout_s) for address, timeout_s in timeouts.items()))
        requests += [
            Request(NFT_MSG_NEWSETELEM, netlink.F_CREATE, plain),
            Request(NFT_MSG_DELSETELEM, 0, plain),
            Request(NFT_MSG_NEWSETELEM, netlink.F_CREATE, timed),
        ]
    return requests


def refill_requests(table: str, elements: Mapping[str, tuple[Version, Iterable[Range]]], for_s: float) -> list[Request]:
    """What makes dynamic sets of intervals hold these ranges, which do not touch, for so many seconds, and no more."""
    requests = []
    for name, (version, ranges) in elements.items():
        requests.append(Request(NFT_MSG_DELSETELEM, 0, _set(table, name)))
        edges = [edge for one in ranges for edge in _edges(one, version, for_s)]
        if edges:
            requests.append(Request(NFT_MSG_NEWSETELEM, netlink.F_CREATE, _body(table, name, edges)))
    return requests


def contents(listing: str, sets: Iterable[NftSet]) -> Contents:
    """What nft's text listing has in these sets, as far as they are of the same type and elements have a timeout."""
    found = {name: (kind, _ELEMENT.findall(elements or "")) for name, kind, elements in _SET.findall(listing)}
    nothing: tuple[str, list[str]] = "", []
    return {
        one.name: tuple(elements)
        for one in sets
        for kind, elements in (found.get(one.name, nothing),)
        if one.dynamic and kind == one.type and elements
    }


def remaining(elements: Iterable[str]) -> dict[str, float]:
    """Address → seconds it has left, of elements as in Contents."""
    split = (element.split() for element in elements)
    return {address: _seconds(left) for address, _, _, _, left in split}


def _seconds(text: str) -> float:
    return sum(int(number) * _UNITS_S[unit] for number, unit in _SPAN.findall(text))


def _set(table: str, name: str) -> bytes:
    return b"".join(
        (
            bytes((NFPROTO_INET, 0, 0, 0)),
            netlink.text(NFTA_SET_ELEM_LIST_TABLE, table),
            netlink.text(NFTA_SET_ELEM_LIST_SET, name),
        )
    )


def _body(table: str, name: str, elements: Iterable[bytes]) -> bytes:
    return _set(table, name) + netlink.nested(NFTA_SET_ELEM_LIST_ELEMENTS, *elements)


def _element(address: str, timeout_s: float = 0.0) -> bytes:
    return _edge(socket.inet_pton(AF[family_of(address)], address), timeout_s)


def _edges(one: Range, version: Version, timeout_s: float) -> Iterable[bytes]:
    """A range as the kernel has it: an element where it begins, and one with a flag right behind it."""
    size = 4 if version == 4 else 16
    yield _edge(one.first.to_bytes(size), timeout_s)
    if not is_last(one, version):
        flags = netlink.attribute(NFTA_SET_ELEM_FLAGS, struct.pack(">I", NFT_SET_ELEM_INTERVAL_END))
        yield _edge((one.last + 1).to_bytes(size), flags=flags)


def _edge(packed: bytes, timeout_s: float = 0.0, flags: bytes = b"") -> bytes:
    key = netlink.nested(NFTA_SET_ELEM_KEY, netlink.attribute(NFTA_DATA_VALUE, packed))
    milliseconds = struct.pack(">Q", max(1, round(timeout_s * 1000)))
    timeout = netlink.attribute(NFTA_SET_ELEM_TIMEOUT, milliseconds) if timeout_s else b""
    return netlink.nested(NFTA_LIST_ELEM, key, flags, timeout)
