"""The feed as one host holds it: the last document of every subject it may read, merged into one picture.

A host reads several audiences, and the same peer, rule or route may be written to more than one of them. The reader of
the bus (feed.py) hands every message to FeedView.apply, whether it came live or from a catch-up; order does not matter.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from shared.events.documents import (
    TOMBSTONE_TTL_S,
    Document,
    FeedMessage,
    PeerDoc,
    ResolutionDoc,
    RouteDoc,
    RuleDoc,
    SelfDoc,
    SettingsDoc,
    Tombstone,
)
from shared.events.subjects import FeedKey

D = TypeVar("D", PeerDoc, ResolutionDoc, RouteDoc, RuleDoc, SelfDoc, SettingsDoc)


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

    revision: newest LOG sequence among all messages ever applied, deletions included.
    """

    revision: int = 0
    self_doc: SelfDoc | None = None
    settings: SettingsDoc | None = None
    peers: Mapping[str, PeerDoc] = {}
    rules: Mapping[str, RuleDoc] = {}
    routes: Mapping[str, RouteDoc] = {}
    resolutions: Mapping[str, ResolutionDoc] = {}


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
        self._documents: Documents | None = None
        if last_good is not None:
            self._revision = last_good.revision
            for held in last_good.held:
                self._held.setdefault(held.key.audience, {})[held.key] = held

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
        before = self._shown(key)
        held[key] = arrived
        if message.revision > self._revision:
            self._revision, self._documents = message.revision, None
        return self._changed(before != self._shown(key))

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
        gone = [key for key, held in self._held[audience].items() if key not in seen and not _is_deletion(held)]
        self._held[audience] = {key: held for key, held in seen.items() if not _is_deletion(held)}
        return self._changed(bool(gone))

    def drop_audience(self, audience: str) -> bool:
        """Whether the picture changed: this host no longer belongs to the audience."""
        self._snapshots.pop(audience, None)
        return self._changed(bool(self._held.pop(audience, None)))

    def forget_deletions(self, now: float) -> None:
        """Forget deletions that a call DELETION_KEPT_S ago saw already. now: seconds on one clock."""
        held = [one for audience in self._held.values() for one in audience.values() if _is_deletion(one)]
        self._deletions = {(one.key, one.order): self._deletions.get((one.key, one.order), now) for one in held}
        for (key, _), since in list(self._deletions.items()):
            if now - since >= DELETION_KEPT_S:
                del self._held[key.audience][key]

    def documents(self) -> Documents:
        """The merged picture of all audiences."""
        if self._documents is None:
            shown = [held for audience in self.audiences for held in self._of(audience).values()]
            self._documents = merged((held for held in shown if not _is_deletion(held)), self._revision)
        return self._documents

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

    def _shown(self, key: FeedKey) -> Document | None:
        held = self._newest(key)
        return None if held is None or isinstance(held.message.document, Tombstone) else held.message.document

    def _changed(self, changed: bool) -> bool:
        if changed:
            self._documents = None
        return changed


def merged(held: Iterable[Held], revision: int) -> Documents:
    """One document per id out of the copies in several audiences: the newest, save for what follows.

    A peer's groups are those of all its copies, since each audience is told of the groups that matter to it. A route's
    copy with permits wins over one without: whoever sees both is a routing peer.
    """
    newest_last = sorted(held, key=lambda held: held.order)
    documents = [held.message.document for held in newest_last]
    self_doc = next(iter(_of_kind(documents, SelfDoc).values()), None)
    peers = _of_kind(documents, PeerDoc)
    if self_doc is not None:
        peers.pop(self_doc.peer_id, None)
    routes = [document for document in documents if isinstance(document, RouteDoc)]
    routes.sort(key=lambda route: route.permits is not None)
    return Documents(
        revision=revision,
        self_doc=self_doc,
        settings=next(iter(_of_kind(documents, SettingsDoc).values()), None),
        peers=_with_all_groups(peers, documents),
        rules=_of_kind(documents, RuleDoc),
        routes=_of_kind(routes, RouteDoc),
        resolutions=_of_kind(documents, ResolutionDoc),
    )


def _of_kind(documents: Iterable[Document | Tombstone], kind: type[D]) -> dict[str, D]:
    """Id → the last document of this kind, sorted by id."""
    last = {_id(document): document for document in documents if isinstance(document, kind)}
    return dict(sorted(last.items()))


def _id(document: Document) -> str:
    match document:
        case SelfDoc() | PeerDoc():
            return document.peer_id
        case RuleDoc():
            return document.rule_id
        case RouteDoc() | ResolutionDoc():
            return document.route_id
        case SettingsDoc():
            return ""


def _with_all_groups(peers: Mapping[str, PeerDoc], documents: Iterable[Document | Tombstone]) -> dict[str, PeerDoc]:
    groups: dict[str, set[str]] = {peer_id: set() for peer_id in peers}
    for document in documents:
        if isinstance(document, PeerDoc) and document.peer_id in groups:
            groups[document.peer_id].update(document.groups)
    return {
        peer_id: msgspec.structs.replace(peer, groups=tuple(sorted(groups[peer_id]))) for peer_id, peer in peers.items()
    }


def _is_deletion(held: Held) -> bool:
    return isinstance(held.message.document, Tombstone)
