"""What every kind of entity says of itself. The kinds are listed in core/entities.py."""

from collections.abc import Callable, Iterable, Mapping
from typing import Self, TypeAlias, TypeVar

import msgspec

E = TypeVar("E")

Key: TypeAlias = tuple[str, str]
"""The name of an index, and what is looked up there."""

References: TypeAlias = Mapping["type[EntityBase]", Callable[[E], Iterable[str]]]
"""Kind → the ids of that kind which an entity names, "" for none."""


class EntityBase(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind"):
    """Part of an account that a commit replaces as a whole. The tag of the subclass is its kind in the log.

    gc=False, as for every value that a replica keeps by the ten thousand: a collection would hold the event loop while
    it walks them (40 ms at 5,000 peers), and frozen values are in no cycle.
    """

    id: str

    @property
    def title(self) -> str:
        """Which entity it is, for people: kind and name."""
        return f"{self.__struct_config__.tag} {self.id}"

    @property
    def keys(self) -> Iterable[Key]:
        """By what the entity is found in the whole installation, across accounts; each key is unique there."""
        return ()

    @classmethod
    def references(cls) -> References[Self]:
        """What an entity of this kind names, and keeps from being deleted (decision R10)."""
        return {}
