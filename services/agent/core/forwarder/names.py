"""Which of the names that routes lead to a question is for, and which routes these are."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

Labels: TypeAlias = tuple[bytes, ...]
"""A name from its first label to its last, in lower case; () is the root."""


class Names:
    """The names of routes. domains: route id → its domains, IDNA ASCII; "*.x" is anything below x and not x (R7)."""

    def __init__(self, domains: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[Labels, tuple[str, ...]] = {}
        self._below: dict[Labels, tuple[str, ...]] = {}
        for route_id, patterns in sorted(domains.items()):
            for pattern in patterns:
                held = self._below if pattern.startswith("*.") else self._exact
                name = labels(pattern.removeprefix("*."))
                held[name] = (*held.get(name, ()), route_id)

    def routes(self, name: Labels) -> tuple[str, ...]:
        """Ids of the routes whose domains the name is one of, those of the longest match first; () for none."""
        found = list(self._exact.get(name, ()))
        if self._below:
            for begin in range(1, len(name)):
                found += self._below.get(name[begin:], ())
        return tuple(dict.fromkeys(found))


def labels(name: str) -> Labels:
    """Of a name as routes have it."""
    return tuple(label.encode() for label in name.lower().rstrip(".").split("."))
