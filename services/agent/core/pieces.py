"""Disjoint pieces of labelled ranges, changed range by range; intervals.partition gives them for all ranges at once."""

from bisect import bisect_right
from collections.abc import Hashable
from typing import Generic, TypeAlias, TypeVar

from services.agent.core.intervals import Range

L = TypeVar("L", bound=Hashable)

Piece: TypeAlias = tuple[int, int, frozenset[L]]
"""First and last number, and the labels of every range that covers them."""


class Pieces(Generic[L]):
    """Neighbours differ in labels. The ranges of one label are disjoint."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece[L]] = []

    def add(self, piece: Range, label: L) -> tuple[list[Piece[L]], list[Piece[L]]]:
        """Cover the range with the label; gives the pieces that went and those that came instead."""
        begin, end = self._around(piece)
        found = _Joined[L]()
        position = piece.first
        for first, last, labels in self._pieces[begin:end]:
            if first > position and position <= piece.last:
                found.put(position, min(first - 1, piece.last), frozenset((label,)))
            if first < piece.first:
                found.put(first, min(last, piece.first - 1), labels)
            if first <= piece.last and last >= piece.first:
                found.put(max(first, piece.first), min(last, piece.last), labels | {label})
            if last > piece.last:
                found.put(max(first, piece.last + 1), last, labels)
            position = max(position, last + 1)
        if position <= piece.last:
            found.put(position, piece.last, frozenset((label,)))
        return self._put(begin, end, found.pieces)

    def remove(self, piece: Range, label: L) -> tuple[list[Piece[L]], list[Piece[L]]]:
        """Take the label, which covers the range, away from it; gives what `add` gives."""
        begin, end = self._around(piece)
        found = _Joined[L]()
        for first, last, labels in self._pieces[begin:end]:
            if first < piece.first:
                found.put(first, min(last, piece.first - 1), labels)
            if first <= piece.last and last >= piece.first and labels != {label}:
                found.put(max(first, piece.first), min(last, piece.last), labels - {label})
            if last > piece.last:
                found.put(max(first, piece.last + 1), last, labels)
        return self._put(begin, end, found.pieces)

    def _around(self, piece: Range) -> tuple[int, int]:
        """The pieces that overlap the range or touch it, as a slice."""
        begin = bisect_right(self._starts, piece.first)
        while begin and self._pieces[begin - 1][1] >= piece.first - 1:
            begin -= 1
        return begin, bisect_right(self._starts, piece.last + 1)

    def _put(self, begin: int, end: int, pieces: list[Piece[L]]) -> tuple[list[Piece[L]], list[Piece[L]]]:
        gone = self._pieces[begin:end]
        self._pieces[begin:end] = pieces
        self._starts[begin:end] = [first for first, _, _ in pieces]
        return gone, pieces


class _Joined(Generic[L]):
    """Pieces in order, of which neighbours with equal labels become one."""

    def __init__(self) -> None:
        self.pieces: list[Piece[L]] = []

    def put(self, first: int, last: int, labels: frozenset[L]) -> None:
        if self.pieces and self.pieces[-1][1] + 1 == first and self.pieces[-1][2] == labels:
            first = self.pieces.pop()[0]
        self.pieces.append((first, last, labels))
