"""Prefixes as ranges of numbers: aggregated, cut into disjoint pieces, and written the way nft prints them.

nft keeps the elements of an interval set disjoint, while routes may be equal, nested or adjacent. Everything here works
on one family at a time; `version` is 4 or 6.
"""

from collections.abc import Hashable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal, TypeAlias, TypeVar

import msgspec

Version: TypeAlias = Literal[4, 6]
Network: TypeAlias = IPv4Network | IPv6Network

L = TypeVar("L", bound=Hashable)

_BITS: dict[Version, int] = {4: 32, 6: 128}

CATCH_ALL = "*"
"""How nft writes the element that stands for every address without one of its own. Ours is none; others may add it."""


class Range(msgspec.Struct, frozen=True, order=True, gc=False):
    """Numbers from first to last, both included: addresses, or ports."""

    first: int
    last: int


def parse(text: str) -> Network:
    """The prefix, its host bits masked away. An address alone is a prefix of full length. Raises ValueError."""
    return ip_network(text, strict=False)


def of(network: Network) -> Range:
    """The addresses of a prefix."""
    return Range(int(network.network_address), int(network.broadcast_address))


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses in as few ranges as possible, in order: overlapping and adjacent ones become one."""
    merged: list[Range] = []
    for piece in sorted(ranges):
        if merged and piece.first <= merged[-1].last + 1:
            merged[-1] = Range(merged[-1].first, max(merged[-1].last, piece.last))
        else:
            merged.append(piece)
    return merged


def subtract(ranges: Iterable[Range], holes: Iterable[Range]) -> list[Range]:
    """The addresses of `ranges` that are in none of `holes`, in order."""
    inside = [(piece, True) for piece in ranges] + [(hole, False) for hole in holes]
    return merge(piece for piece, labels in partition(inside) if labels == {True})


def partition(labelled: Iterable[tuple[Range, L]]) -> list[tuple[Range, frozenset[L]]]:
    """Disjoint pieces in order, each with the labels of every range that covers it; neighbours differ in labels."""
    edges: dict[int, list[tuple[L, int]]] = {}
    for piece, label in labelled:
        edges.setdefault(piece.first, []).append((label, 1))
        edges.setdefault(piece.last + 1, []).append((label, -1))
    covering: dict[L, int] = {}
    pieces: list[tuple[Range, frozenset[L]]] = []
    start = 0
    for edge in sorted(edges):
        if covering:
            _append(pieces, Range(start, edge - 1), frozenset(covering))
        for label, step in edges[edge]:
            covering[label] = covering.get(label, 0) + step
            if not covering[label]:
                del covering[label]
        start = edge
    return pieces


def _append(pieces: list[tuple[Range, frozenset[L]]], piece: Range, labels: frozenset[L]) -> None:
    if pieces and pieces[-1][1] == labels and pieces[-1][0].last + 1 == piece.first:
        pieces[-1] = Range(pieces[-1][0].first, piece.last), labels
    else:
        pieces.append((piece, labels))


def text(piece: Range, version: Version) -> str:
    """How nft prints the range: "10.0.0.1", "10.0.0.0/8" or, where it is no prefix, "10.0.0.0-10.0.0.9"."""
    size = piece.last - piece.first + 1
    if size == 1:
        return address(piece.first, version)
    if size & (size - 1) == 0 and piece.first % size == 0:
        return f"{address(piece.first, version)}/{_BITS[version] - size.bit_length() + 1}"
    return f"{address(piece.first, version)}-{address(piece.last, version)}"


def read(written: str, version: Version) -> Range:
    """The range that `text` writes like this; for CATCH_ALL all that it may stand for. Raises ValueError."""
    if written == CATCH_ALL:
        return whole(version)
    first, _, last = written.partition("-")
    network = parse(first)
    return Range(int(network.network_address), int((parse(last) if last else network).broadcast_address))


def whole(version: Version) -> Range:
    """Every address of the family."""
    return Range(0, (1 << _BITS[version]) - 1)


def is_last(piece: Range, version: Version) -> bool:
    """Whether the range ends at the family's last address."""
    return piece.last == whole(version).last


def address(number: int, version: Version) -> str:
    """The canonical text of an address."""
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))
