"""Domain routes out of the feed. The same route stands there once for each audience that sees it."""

from typing import TypeAlias

import msgspec

from services.resolver.core.names import resolvable
from shared.events.documents import FeedMessage, RouteDoc
from shared.events.subjects import FeedKey

WITHDRAW_AFTER_S = 30.0
"""What the feed lacks may only have been lost there, and is written again: until then the addresses that a route keeps
are not forgotten. A route that ended has a tombstone."""


class RouteKey(msgspec.Struct, frozen=True, order=True):
    account: str
    route_id: str


class Wanted(msgspec.Struct, frozen=True):
    """A route whose names are to be resolved. revision: of the newest of its documents. routing_peers: ids, sorted."""

    revision: int
    names: tuple[str, ...]
    keep: bool
    routing_peers: tuple[str, ...] = ()


class Gone(msgspec.Struct, frozen=True):
    """No audience sees the route any more, or it has no names to resolve."""

    revision: int


Change: TypeAlias = tuple[RouteKey, Wanted | Gone]


class _Copy(msgspec.Struct, frozen=True):
    revision: int
    document: RouteDoc


class RouteBook:
    """Turns documents and tombstones into changes of routes; a route ends with its last copy."""

    def __init__(self) -> None:
        self._copies: dict[RouteKey, dict[str, _Copy]] = {}
        self._wanted: dict[RouteKey, Wanted] = {}
        self._touched: dict[RouteKey, int] = {}
        """Routes to look at, with the newest revision that touched them."""
        self._not_in_snapshot: set[tuple[RouteKey, str]] = set()

    def begin(self) -> None:
        """A snapshot starts: copies that it does not bring are in doubt."""
        self._not_in_snapshot = {(route, audience) for route, copies in self._copies.items() for audience in copies}

    def apply(self, key: FeedKey, message: FeedMessage) -> None:
        """A document or a tombstone was written; what is no route's is not looked at."""
        route = RouteKey(key.account, key.id)
        self._not_in_snapshot.discard((route, key.audience))
        if isinstance(message.document, RouteDoc):
            self._copies.setdefault(route, {})[key.audience] = _Copy(message.revision, message.document)
        else:
            self._copies.get(route, {}).pop(key.audience, None)
        self._touch(route, message.revision)

    def withdraw(self) -> None:
        """Copies that the snapshot did not bring, and that were not written since, are gone."""
        for route, audience in self._not_in_snapshot:
            copy = self._copies[route].pop(audience)
            self._touch(route, copy.revision)
        self._not_in_snapshot.clear()

    def take(self) -> list[Change]:
        """What changed since the last call, each route once."""
        touched, self._touched = self._touched, {}
        changes: list[Change] = []
        for route, revision in touched.items():
            before, now = self._wanted.get(route), self._newest(route)
            if now is not None:
                self._wanted[route] = now
            elif before is not None:
                del self._wanted[route]
            if now is None and before is not None:
                changes.append((route, Gone(revision)))
            elif now is not None and now != before:
                changes.append((route, now))
        return changes

    def _touch(self, route: RouteKey, revision: int) -> None:
        self._touched[route] = max(revision, self._touched.get(route, 0))

    def _newest(self, route: RouteKey) -> Wanted | None:
        copies = self._copies.get(route)
        if not copies:
            self._copies.pop(route, None)
            return None
        newest = max(copies.values(), key=lambda copy: copy.revision)
        document, names = newest.document, resolvable(newest.document.domains)
        return Wanted(newest.revision, names, document.keep_route, document.routing_peers) if names else None
