"""A pulse: an echo request every SPACING_S from a host, and what became of each of them.

sender.py writes it into a file that is shared memory: a count, then for each request the time it was sent and the time
the kernel had its answer (unix nanoseconds, 0 = none). Whoever maps the file reads along without asking anybody.
"""

import itertools
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

SPACING_S = 0.02
CAPACITY = 1 << 22
"""Requests of 23 hours; the file is sparse."""
BEAT_S = 0.1
"""An answer that takes longer than this counts as missing where somebody waits for a steady pulse."""

_COUNT = struct.Struct("=q")
_ENTRY = struct.Struct("=qq")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the requests of a time.

    outage_s: the longest time without an answer, less the spacing. late_s: the same of the requests themselves, which
    is what the sender's own lateness may add to it. lost: requests that nobody answered.
    """

    sent: int
    lost: int
    outage_s: float
    late_s: float


class Pulse:
    """The file, made where there is none."""

    def __init__(self, file: Path) -> None:
        with file.open("a+b") as opened:
            opened.truncate(_COUNT.size + _ENTRY.size * CAPACITY)
            self._map = mmap.mmap(opened.fileno(), 0)

    @property
    def count(self) -> int:
        """How many requests were sent so far: the number of the next one."""
        return int(_COUNT.unpack_from(self._map)[0])

    def sends(self, at: int) -> int:
        """Note the next request; gives its number."""
        number = self.count
        _ENTRY.pack_into(self._map, _at(number), at, 0)
        _COUNT.pack_into(self._map, 0, number + 1)
        return number

    def hears(self, number: int, at: int) -> None:
        """Note the first answer to a request. One to a request that was never sent is none."""
        if 0 <= number < self.count:
            sent, answered = _ENTRY.unpack_from(self._map, _at(number))
            _ENTRY.pack_into(self._map, _at(number), sent, answered or at)

    def steady(self, requests: int) -> bool:
        """Whether each of the last requests was answered; those of the last BEAT_S may still be."""
        waiting = round(BEAT_S / SPACING_S)
        last = self.count - waiting
        return last >= requests and all(answered for _, answered in self._entries(last - requests, last))

    def window(self, first: int, last: int | None = None) -> Window:
        """What became of the requests from `first` on, before `last`; those have had their time to be answered."""
        end = self.count if last is None else last
        entries = list(self._entries(max(0, first - 1), end))
        inside = entries[1 if first else 0 :]
        return Window(
            sent=len(inside),
            lost=sum(not answered for _, answered in inside),
            outage_s=_longest(sorted([*(answered for _, answered in entries if answered), entries[-1][0]])),
            late_s=_longest([sent for sent, _ in entries]),
        )

    def close(self) -> None:
        self._map.close()

    def _entries(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        return (_ENTRY.unpack_from(self._map, _at(number)) for number in range(first, last))


def _longest(moments: list[int]) -> float:
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return max(0.0, max(gaps, default=0) / 1e9 - SPACING_S)


def _at(number: int) -> int:
    return _COUNT.size + _ENTRY.size * number
