"""What to change so that what is observed becomes what is desired."""

from collections.abc import Callable, Mapping
from operator import eq
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K")
V = TypeVar("V")


class Delta(msgspec.Struct, Generic[K, V], frozen=True):
    """upserts: entries that are missing or differ, as desired, in the order of `desired`. deletes: keys in the order
    of `observed`."""

    upserts: Mapping[K, V]
    deletes: tuple[K, ...]

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)


def delta(desired: Mapping[K, V], observed: Mapping[K, V], same: Callable[[V, V], bool] = eq) -> Delta[K, V]:
    """The entries to upsert and the keys to delete. same: (desired, observed) → whether nothing needs to be done."""
    return Delta(
        {key: value for key, value in desired.items() if key not in observed or not same(value, observed[key])},
        tuple(key for key in observed if key not in desired),
    )
