"""What differs between two states of which the later one shares with the former whatever stayed."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def changed(before: Mapping[K, V], now: Mapping[K, V]) -> set[K]:
    """The keys that came, went, or have another value, where another is told by identity first."""
    if before is now:
        return set()
    found = {key for key, value in now.items() if (former := before.get(key)) is not value and former != value}
    found.update(before.keys() - now.keys())
    return found


def patched(former: Mapping[K, V], changes: Mapping[K, V | None]) -> Mapping[K, V]:
    """The mapping with these values, None for what is gone; the former one itself where nothing differs."""
    differing = {key: value for key, value in changes.items() if former.get(key) != value}
    if not differing:
        return former
    found = dict(former)
    for key, value in differing.items():
        if value is None:
            del found[key]
        else:
            found[key] = value
    return found
