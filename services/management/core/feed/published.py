"""What stands in FEED, and what has to be written so that it is what it should be."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from services.management.core.feed.compose import Documents, Unit, unit_of
from shared.events.documents import Document, RouteDoc, Tombstone
from shared.events.subjects import FeedKey

Write = tuple[FeedKey, Document | Tombstone]

_ORDER = {kind: place for place, kind in enumerate(("settings", "self", "peer", "rule", "route", "resolution"))}
"""Kinds that are not here come last: another version wrote them, and they are withdrawn."""


class Published:
    """The documents of FEED by account and unit, as far as one writer is responsible for them.

    stored: what was read from FEED. What could not be decoded stands as None: it is written anew or withdrawn.
    """

    def __init__(self, stored: Mapping[FeedKey, Document | None]) -> None:
        self._documents: dict[str, dict[Unit, Documents]] = defaultdict(dict)
        self._unreadable: dict[str, set[FeedKey]] = defaultdict(set)
        for key, document in stored.items():
            if document is None:
                self._unreadable[key.account].add(key)
            else:
                self._documents[key.account].setdefault(unit_of(key, document), {})[key] = document

    def units(self) -> Iterator[tuple[str, set[Unit]]]:
        """Accounts with the units that have documents."""
        for account, there in self._documents.items():
            yield account, set(there)

    def update(self, account: str, wanted: Mapping[Unit, Documents]) -> list[Write]:
        """Take over what the units should be; gives the writes that make it so, in the order to make them.

        New and changed documents come before withdrawn ones, and a routing peer is told of a route before its clients.
        """
        there = self._documents[account]
        writes: list[Write] = []
        for unit, documents in wanted.items():
            before = there.pop(unit, {})
            if documents:
                there[unit] = documents
            writes += ((key, document) for key, document in documents.items() if before.get(key) != document)
            writes += ((key, Tombstone()) for key in before.keys() - documents.keys())
        if unreadable := self._unreadable.pop(account, None):
            writes += ((key, Tombstone()) for key in unreadable - {key for key, _ in writes})
        return _ordered(writes)


def _ordered(writes: Iterable[Write]) -> list[Write]:
    def place(write: Write) -> tuple[bool, int, bool, FeedKey]:
        key, document = write
        for_clients = isinstance(document, RouteDoc) and document.permits is None
        kind = _ORDER.get(key.kind, len(_ORDER))
        return isinstance(document, Tombstone), kind, for_clients, key

    return sorted(writes, key=place)
