"""What stands in FEED, and what has to be written so that it is what it should be."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from services.management.core.feed.compose import unit_of
from services.management.core.feed.unit import Documents, Unit
from services.management.core.feed.units import UNITS
from shared.events.documents import KINDS, Document, Tombstone
from shared.events.subjects import FeedKey

Write = tuple[FeedKey, Document | Tombstone]

_ORDER = {KINDS[kind.makes]: place for place, kind in enumerate(UNITS)}
"""Kinds that are not here come last: another version wrote them, and they are withdrawn."""

_LATE = {KINDS[kind.makes]: kind.late for kind in UNITS if kind.late}

_MOST_SHARED = 10_000
"""Sets of audiences that are remembered so that units which have the same one share it."""

_encode = msgspec.msgpack.Encoder().encode


def _digest(document: Document) -> bytes:
    """Stands for the content of a document, which is only ever compared: a tenth of its size."""
    return blake2b(_encode(document), digest_size=16).digest()


class _Copies(msgspec.Struct, frozen=True, gc=False):
    """One document as it stands in one audience or in several; a peer's is the same for all that see it.

    content: its digest. audiences: sorted, shared with other units. A document object for each message would make the
    writer several times as large as everything that the documents are made of.
    """

    kind: str
    id: str
    content: bytes
    audiences: tuple[str, ...]


_Standing: TypeAlias = tuple[_Copies, ...]


class Published:
    """The documents of FEED by account and unit, as far as one writer is responsible for them.

    stored: what was read from FEED, as `found` takes it.
    """

    def __init__(self, stored: Mapping[FeedKey, Document | None] | None = None) -> None:
        self._standing: dict[str, dict[Unit, _Standing]] = defaultdict(dict)
        self._unreadable: dict[str, set[FeedKey]] = defaultdict(set)
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        for key, document in (stored or {}).items():
            self.found(key, document)

    def found(self, key: FeedKey, document: Document | None) -> None:
        """One message of FEED. What could not be decoded is None: it is written anew or withdrawn."""
        if document is None:
            self._unreadable[key.account].add(key)
            return
        there, unit = self._standing[key.account], unit_of(key, document)
        standing, content, audience = there.get(unit, ()), _digest(document), sys.intern(key.audience)
        for place, copies in enumerate(standing):
            if (copies.content, copies.kind, copies.id) == (content, key.kind, key.id):
                more = replace(copies, audiences=self._share((*copies.audiences, audience)))
                there[unit] = (*standing[:place], more, *standing[place + 1 :])
                return
        there[unit] = (*standing, _Copies(sys.intern(key.kind), sys.intern(key.id), content, self._share((audience,))))

    def units(self) -> Iterator[tuple[str, set[Unit]]]:
        """Accounts with the units that have documents."""
        for account, there in self._standing.items():
            yield account, set(there)

    def unreadable(self) -> list[str]:
        """Accounts where something still stands that could not be decoded."""
        return list(self._unreadable)

    def add(self, account: str, unit: Unit, desired: Documents) -> tuple[list[Write], bool]:
        """Take over what the unit should have besides what it has; gives the writes of what is new or changed, in the
        order to make them, and whether something else stands there that `update` will withdraw.
        """
        before = self._before(account, unit)
        written, fresh = self._changes(account, before, desired)
        if written:
            self._standing[account][unit] = self._packed({**before, **fresh})
        return _ordered(written), not before.keys() <= fresh.keys()

    def withdraw(self, account: str, unit: Unit) -> list[Write]:
        """Take over that the unit has no documents any more; gives the writes."""
        before = self._before(account, unit)
        self._standing[account].pop(unit, None)
        return _ordered((key, Tombstone()) for key in before)

    def update(self, account: str, desired: Mapping[Unit, Documents]) -> list[Write]:
        """Take over what the units should be; gives the writes that make it so, in the order to make them.

        New and changed documents come before withdrawn ones, in the order of UNITS, and what is late after the rest.
        What is unreadable and none of the units', nor was added before, is withdrawn too.
        """
        there = self._standing[account]
        writes: list[Write] = []
        for unit, documents in desired.items():
            before = self._before(account, unit)
            written, fresh = self._changes(account, before, documents)
            if fresh:
                there[unit] = self._packed(fresh)
            else:
                there.pop(unit, None)
            writes += written
            writes += ((key, Tombstone()) for key in before.keys() - fresh.keys())
        writes += ((key, Tombstone()) for key in self._unreadable.pop(account, ()))
        return _ordered(writes)

    def _before(self, account: str, unit: Unit) -> dict[FeedKey, bytes]:
        return {
            FeedKey(account, audience, copies.kind, copies.id): copies.content
            for copies in self._standing[account].get(unit, ())
            for audience in copies.audiences
        }

    def _changes(
        self, account: str, before: Mapping[FeedKey, bytes], desired: Documents
    ) -> tuple[list[Write], dict[FeedKey, bytes]]:
        """What differs from before, and everything desired as it is kept."""
        encoded = {id(document): _digest(document) for document in desired.values()}
        fresh = {key: encoded[id(document)] for key, document in desired.items()}
        written: list[Write] = [(key, document) for key, document in desired.items() if before.get(key) != fresh[key]]
        if account in self._unreadable:
            self._unreadable[account].difference_update(key for key, _ in written)
        return written, fresh

    def _packed(self, documents: Mapping[FeedKey, bytes]) -> _Standing:
        audiences: dict[tuple[str, str, bytes], list[str]] = defaultdict(list)
        for key, content in documents.items():
            audiences[key.kind, key.id, content].append(sys.intern(key.audience))
        return tuple(
            _Copies(kind, id, content, self._share(tuple(sorted(seen_by))))
            for (kind, id, content), seen_by in audiences.items()
        )

    def _share(self, audiences: tuple[str, ...]) -> tuple[str, ...]:
        if len(self._shared) >= _MOST_SHARED:
            self._shared.clear()
        return self._shared.setdefault(audiences, audiences)


def _ordered(writes: Iterable[Write]) -> list[Write]:
    def place(write: Write) -> tuple[bool, int, bool, FeedKey]:
        key, document = write
        gone, late = isinstance(document, Tombstone), _LATE.get(key.kind)
        kind = _ORDER.get(key.kind, len(_ORDER))
        return gone, kind, not gone and late is not None and late(document), key

    return sorted(writes, key=place)
