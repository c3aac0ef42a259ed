"""The feed as one host holds it: the last document of every subject it may read, merged into one picture.

A host reads several audiences, and the same peer, rule or route may be written to more than one of them. The reader of
the bus (feed.py) hands every message to FeedView.apply, whether it came live or from a catch-up; order does not matter.
A document is merged and parsed when it comes, and the picture shares with the former one whatever stayed.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar, get_args

import msgspec

from services.agent.core import parsed
from services.agent.core.parsed import Peer, Resolution, Route
from shared.events.documents import (
    TOMBSTONE_TTL_S,
    Document,
    FeedMessage,
    NameserversDoc,
    PeerDoc,
    PresenceDoc,
    ResolutionDoc,
    ResolvingDoc,
    RouteDoc,
    RuleDoc,
    SelfDoc,
    SettingsDoc,
    Tombstone,
    ZoneDoc,
)
from shared.events.subjects import FeedKey

V = TypeVar("V")

Parsed: TypeAlias = (
    SelfDoc | SettingsDoc | Peer | RuleDoc | Route | Resolution | PresenceDoc | NameserversDoc | ZoneDoc | ResolvingDoc
)

Ident: TypeAlias = tuple[type[Document], str]
"""A kind of document and the id of one, by which the copies in several audiences belong together."""

DELETION_KEPT_S = TOMBSTONE_TTL_S / 2
"""An older message on its way takes seconds, a minute when a server is slow."""


class Held(msgspec.Struct, frozen=True, array_like=True):
    """One subject's last message, and its stream sequence."""

    key: FeedKey
    sequence: int
    message: FeedMessage

    @property
    def order(self) -> tuple[int, int]:
        """Greater is newer. The revision comes first: it also holds when the stream was made anew from the log."""
        return self.message.revision, self.sequence


class LastGood(msgspec.Struct, frozen=True, array_like=True):
    """What is kept on disk of a FeedView, so that a host forwards with no control plane in reach. Sorted by key."""

    revision: int = 0
    held: tuple[Held, ...] = ()


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """The merged picture, id → document, sorted by id. peers: without this host itself.
    presences: by peer id.

    revision: newest LOG sequence among all messages ever applied, deletions included. Of two pictures of one FeedView
    a kind, and a document, that is the same in both is the same object.
    """

    revision: int = 0
    self_doc: SelfDoc | None = None
    settings: SettingsDoc | None = None
    peers: Mapping[str, Peer] = {}
    rules: Mapping[str, RuleDoc] = {}
    routes: Mapping[str, Route] = {}
    resolutions: Mapping[str, Resolution] = {}
    presences: Mapping[str, PresenceDoc] = {}
    nameservers: Mapping[str, NameserversDoc] = {}
    zones: Mapping[str, ZoneDoc] = {}


class FeedView:
    """Hold the newest message of each subject and tell what they amount to.

    Messages may be applied at any time and in any order. A reading of everything an audience holds stands between
    `begin_snapshot` and `end_snapshot`: what did not come is no longer there.
    """

    def __init__(self, last_good: LastGood | None = None) -> None:
        self._held: dict[str, dict[FeedKey, Held]] = {}
        self._snapshots: dict[str, dict[FeedKey, Held]] = {}
        self._deletions: dict[tuple[FeedKey, tuple[int, int]], float] = {}
        self._revision = 0
        self._picture = _Picture()
        if last_good is not None:
            self._revision = last_good.revision
            for held in last_good.held:
                self._held.setdefault(held.key.audience, {})[held.key] = held
                self._picture.put(None, held)

    @property
    def audiences(self) -> frozenset[str]:
        """Every audience that something is held of or read from."""
        return frozenset(self._held.keys() | self._snapshots.keys())

    def apply(self, key: FeedKey, sequence: int, message: FeedMessage) -> bool:
        """Whether the picture changed. An older message never replaces a newer one, in whatever order they arrive."""
        held = self._snapshots.get(key.audience)
        if held is None:
            held = self._held.setdefault(key.audience, {})
        arrived = Held(key, sequence, message)
        if key in held and arrived.order <= held[key].order:
            return False
        before = self._newest(key)
        held[key] = arrived
        self._revision = max(self._revision, message.revision)
        return self._picture.put(before, arrived)

    def gap(self, key: FeedKey, last_sequence: int) -> bool:
        """Whether live messages were lost: what the stream held on this subject before (0 = nothing) never came.

        Ask before `apply`, with the last sequence that came with a live message.
        """
        held = self._newest(key)
        return last_sequence > (held.sequence if held else 0)

    def begin_snapshot(self, audience: str) -> None:
        """Until `end_snapshot` the former documents stay in the picture."""
        self._held.setdefault(audience, {}).update(self._snapshots.get(audience, {}))
        self._snapshots[audience] = {}

    def end_snapshot(self, audience: str) -> bool:
        """Whether the picture changed: what did not come since `begin_snapshot` is dropped from the audience."""
        seen = self._snapshots.pop(audience)
        gone = [held for key, held in self._held[audience].items() if key not in seen and not _is_deletion(held)]
        self._held[audience] = {key: held for key, held in seen.items() if not _is_deletion(held)}
        for held in gone:
            self._picture.put(held, None)
        return bool(gone)

    def drop_audience(self, audience: str) -> bool:
        """Whether the picture changed: this host no longer belongs to the audience."""
        for held in self._of(audience).values():
            self._picture.put(held, None)
        self._snapshots.pop(audience, None)
        return bool(self._held.pop(audience, None))

    def forget_deletions(self, now: float) -> None:
        """Forget deletions that a call DELETION_KEPT_S ago saw already. now: seconds on one clock."""
        held = [one for audience in self._held.values() for one in audience.values() if _is_deletion(one)]
        self._deletions = {(one.key, one.order): self._deletions.get((one.key, one.order), now) for one in held}
        for (key, _), since in list(self._deletions.items()):
            if now - since >= DELETION_KEPT_S:
                del self._held[key.audience][key]

    def documents(self) -> Documents:
        """The merged picture of all audiences."""
        return self._picture.documents(self._revision)

    def held(self, audience: str) -> tuple[Held, ...]:
        """The newest message of each subject of the audience, deletions included."""
        return tuple(self._of(audience).values())

    def export(self) -> LastGood:
        """What to keep on disk."""
        held = (held for audience in self.audiences for held in self._of(audience).values() if not _is_deletion(held))
        return LastGood(self._revision, tuple(sorted(held, key=lambda held: held.key)))

    def _of(self, audience: str) -> dict[FeedKey, Held]:
        return self._held.get(audience, {}) | self._snapshots.get(audience, {})

    def _newest(self, key: FeedKey) -> Held | None:
        return self._snapshots.get(key.audience, {}).get(key) or self._held.get(key.audience, {}).get(key)


class _Picture:
    """The merged picture, of which only what was touched is merged anew."""

    def __init__(self) -> None:
        self._copies: dict[Ident, tuple[Held, ...]] = {}
        self._touched: set[Ident] = set()
        self._of_kind: dict[type[Document], dict[str, Any]] = {kind: {} for kind in KINDS}
        self._documents = Documents()

    def put(self, before: Held | None, now: Held | None) -> bool:
        """A subject shows `now` instead of `before`; gives whether these differ. Deletions show nothing."""
        former, document = _document(before), _document(now)
        if former is not None and before is not None:
            ident = _ident(former)
            self._touched.add(ident)
            self._copies[ident] = tuple(held for held in self._copies[ident] if held is not before)
        if document is not None and now is not None:
            ident = _ident(document)
            self._touched.add(ident)
            self._copies[ident] = (*self._copies.get(ident, ()), now)
        return former != document

    def documents(self, revision: int) -> Documents:
        """The picture now."""
        changed = [kind for kind in KINDS if self._merge(kind, [id for one, id in self._touched if one is kind])]
        self._touched.clear()
        if changed:
            self._documents = self._composed(revision)
        elif revision != self._documents.revision:
            self._documents = msgspec.structs.replace(self._documents, revision=revision)
        return self._documents

    def _composed(self, revision: int) -> Documents:
        of, former = self._of_kind, self._documents.peers
        me = next(iter(of[SelfDoc].values()), None)
        peers = of[PeerDoc]
        if me is not None and me.peer_id in peers:
            peers = with_changes(peers, {me.peer_id: None})
        return Documents(
            revision=revision,
            self_doc=me,
            settings=next(iter(of[SettingsDoc].values()), None),
            peers=former if peers == former else peers,
            rules=of[RuleDoc],
            routes=of[RouteDoc],
            resolutions=of[ResolutionDoc],
            presences=of[PresenceDoc],
            nameservers=of[NameserversDoc],
            zones=of[ZoneDoc],
        )

    def _merge(self, kind: type[Document], ids: Iterable[str]) -> bool:
        """Merge the copies of these documents anew; gives whether that changed anything."""
        former = self._of_kind[kind]
        changes: dict[str, Parsed | None] = {}
        for id in ids:
            copies = self._copies[kind, id]
            if not copies:
                del self._copies[kind, id]
            document = merged(copies) if copies else None
            if document != former.get(id):
                changes[id] = document
        if changes:
            self._of_kind[kind] = with_changes(former, changes)
        return bool(changes)


KINDS: tuple[type[Document], ...] = get_args(Document)


def with_changes(former: Mapping[str, V], changes: Mapping[str, V | None]) -> dict[str, V]:
    """The mapping with these values, sorted by key as it was; what is None is gone."""
    found = dict(former)
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found if changes.keys() <= former.keys() else dict(sorted(found.items(), key=itemgetter(0)))


def merged(copies: Iterable[Held]) -> Parsed:
    """One document out of its copies in several audiences, at least one: the newest, save for what follows.

    A peer's groups are those of all its copies, since each audience is told of the groups that matter to it. A route's
    copy with permits wins over one without: whoever sees both is a routing peer. What a routing peer says of its routes
    comes to each audience for the routes that are distributed to it.
    """
    newest_last = sorted(copies, key=lambda held: (held.order, held.key))
    documents = [document for held in newest_last if (document := _document(held)) is not None]
    match documents[-1]:
        case PeerDoc() as peer:
            groups = {group for document in documents if isinstance(document, PeerDoc) for group in document.groups}
            return parsed.peer(msgspec.structs.replace(peer, groups=tuple(sorted(groups))))
        case RouteDoc():
            routes = [document for document in documents if isinstance(document, RouteDoc)]
            routes.sort(key=lambda route: route.permits is not None)
            return parsed.route(routes[-1])
        case ResolutionDoc() as resolution:
            return parsed.resolution(resolution)
        case PresenceDoc() as presence:
            copies_of_it = [document for document in documents if isinstance(document, PresenceDoc)]
            reasons = {one.route_id: one for copy in copies_of_it for one in copy.withdrawn}
            holds = {route_id for copy in copies_of_it for route_id in copy.holds}
            withdrawn = tuple(reasons[route_id] for route_id in sorted(reasons))
            return msgspec.structs.replace(presence, withdrawn=withdrawn, holds=tuple(sorted(holds)))
        case document:
            return document


def _ident(document: Document) -> Ident:
    match document:
        case SelfDoc() | PeerDoc() | PresenceDoc():
            return type(document), document.peer_id
        case RuleDoc():
            return RuleDoc, document.rule_id
        case RouteDoc() | ResolutionDoc():
            return type(document), document.route_id
        case NameserversDoc():
            return NameserversDoc, document.group_id
        case ZoneDoc():
            return ZoneDoc, document.zone_id
        case SettingsDoc() | ResolvingDoc():
            return type(document), ""


def _document(held: Held | None) -> Document | None:
    return None if held is None or isinstance(held.message.document, Tombstone) else held.message.document


def _is_deletion(held: Held) -> bool:
    return isinstance(held.message.document, Tombstone)
