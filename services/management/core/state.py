"""Intent: the fold of the log, in memory, with the indexes that keep a change's cost independent of the fleet's size.

The objects here are written by `Intent.apply` alone. Everything else reads them, between two awaits, so that a reader
sees one revision.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.structs import replace

from services.management.core.entities import KINDS, Entity, Ref, ref
from services.management.core.model.account import Account
from services.management.core.model.commit import Commit
from services.management.core.model.dnssettings import DNS_SETTINGS_ID, DnsSettings
from services.management.core.model.entity import EntityBase, Key
from services.management.core.model.group import Group
from services.management.core.model.nameservers import NameserverGroup
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy
from services.management.core.model.route import Route
from services.management.core.model.setupkey import SetupKey
from services.management.core.model.user import AccessToken, User
from services.management.core.model.zone import Zone, ZoneRecord
from services.management.core.routeindex import RouteIndex

E = TypeVar("E", bound=EntityBase)


class Change:
    """What one commit did to one entity: `old` is None for a new one, `new` is None for a deleted one."""

    __slots__ = ("new", "old", "ref")

    def __init__(self, ref: Ref, old: Entity | None, new: Entity | None) -> None:
        self.ref = ref
        self.old = old
        self.new = new


class Table(Generic[E]):
    """The entities of one kind, id → entity. view: the same for readers, one object for good."""

    def __init__(self) -> None:
        self.entities: dict[str, E] = {}
        self.view: Mapping[str, E] = MappingProxyType(self.entities)


class AccountState:
    """One account at one revision (LOG sequence). route_index: of the same routes as `routes`."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.revision = 0
        self._tables: dict[str, Table[Any]] = {kind: Table() for kind in KINDS.values()}
        self.groups = self.table(Group)
        self.peers = self.table(Peer)
        self.routes = self.table(Route)
        self.policies = self.table(Policy)
        self.nameserver_groups = self.table(NameserverGroup)
        self.zones = self.table(Zone)
        self.zone_records = self.table(ZoneRecord)
        self.setup_keys = self.table(SetupKey)
        self.users = self.table(User)
        self.access_tokens = self.table(AccessToken)
        self.route_index = RouteIndex()
        self._members: dict[str, set[str]] = defaultdict(set)
        self._addresses: dict[str, str] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        self._records: dict[str, dict[str, ZoneRecord]] = {}

    def table(self, kind: type[E]) -> Mapping[str, E]:
        """Every entity of that kind by its id, now and after further commits."""
        return self._tables[KINDS[kind]].view

    @property
    def dns_settings(self) -> DnsSettings:
        """Also where nobody ever set any."""
        return self.table(DnsSettings).get(DNS_SETTINGS_ID) or DnsSettings(id=DNS_SETTINGS_ID)

    def entities(self) -> Iterator[Entity]:
        """Every entity, the account included, in no particular order."""
        for table in self._tables.values():
            yield from table.view.values()

    def members(self, group_id: str) -> Iterable[str]:
        """Ids of the peers in the group; all peers for All; nothing for an unknown group."""
        if group_id == self.account.all_group:
            return self.peers.keys()
        return frozenset(self._members.get(group_id, ()))

    def member_count(self, group_id: str) -> int:
        return len(self.peers) if group_id == self.account.all_group else len(self._members.get(group_id, ()))

    def groups_of(self, peer: Peer) -> tuple[str, ...]:
        """The peer's groups, All among them, sorted."""
        return tuple(sorted({*peer.groups, self.account.all_group}))

    def records_of(self, zone_id: str) -> tuple[ZoneRecord, ...]:
        """The zone's records, oldest first."""
        records = self._records.get(zone_id, {})
        return tuple(records[id] for id in sorted(records))

    def address_taken(self, address: str) -> bool:
        return address in self._addresses

    def label_holders(self, label: str) -> frozenset[str]:
        """Ids of the peers with that DNS label; several may share an extra label, none shares its own."""
        return frozenset(self._labels.get(label, ()))

    def apply(self, revision: int, commit: Commit) -> list[Change]:
        """Fold one commit in; gives what changed, in the commit's order, group deletions spelt out as peer changes."""
        changes = [self._put(entity) for entity in commit.upserts]
        for deleted in commit.deletes:
            changes.extend(self._remove(deleted))
        self.revision = revision
        return changes

    def _put(self, entity: Entity) -> Change:
        name = ref(entity)
        entities = self._tables[name.kind].entities
        old = entities.get(entity.id)
        entities[entity.id] = entity
        if isinstance(entity, Account):
            self.account = entity
        self._unindex(old)
        self._index(entity)
        return Change(name, old, entity)

    def _remove(self, name: Ref) -> Iterator[Change]:
        old = self._tables[name.kind].entities.pop(name.id, None)
        if old is None:
            return
        self._unindex(old)
        yield Change(name, old, None)
        if isinstance(old, Group):
            for peer_id in sorted(self._members.pop(old.id, ())):
                peer = self.peers[peer_id]
                yield self._put(_without_group(peer, old.id))

    def _index(self, entity: Entity) -> None:
        if isinstance(entity, Peer):
            self._index_peer(entity)
        elif isinstance(entity, Route):
            self.route_index.put(entity)
        elif isinstance(entity, ZoneRecord):
            self._records.setdefault(entity.zone, {})[entity.id] = entity

    def _unindex(self, entity: Entity | None) -> None:
        if isinstance(entity, Peer):
            self._unindex_peer(entity)
        elif isinstance(entity, Route):
            self.route_index.drop(entity)
        elif isinstance(entity, ZoneRecord):
            records = self._records[entity.zone]
            del records[entity.id]
            if not records:
                del self._records[entity.zone]

    def _index_peer(self, peer: Peer) -> None:
        for group_id in peer.groups:
            self._members[group_id].add(peer.id)
        for address in _addresses(peer):
            self._addresses[address] = peer.id
        for label in _labels(peer):
            self._labels[label] = (*self._labels.get(label, ()), peer.id)

    def _unindex_peer(self, peer: Peer) -> None:
        for group_id in peer.groups:
            _discard(self._members, group_id, peer.id)
        for address in _addresses(peer):
            if self._addresses.get(address) == peer.id:  # within one commit another peer may have it by now
                del self._addresses[address]
        for label in _labels(peer):
            self._drop_label(label, peer.id)

    def _drop_label(self, label: str, peer_id: str) -> None:
        left = tuple(holder for holder in self._labels[label] if holder != peer_id)
        if left:
            self._labels[label] = left
        else:
            del self._labels[label]


def _addresses(peer: Peer) -> list[str]:
    return [address for address in (peer.address_v4, peer.address_v6) if address]


def _labels(peer: Peer) -> set[str]:
    return {peer.dns_label, *peer.extra_dns_labels}


def _discard(index: dict[str, set[str]], key: str, member: str) -> None:
    index[key].discard(member)
    if not index[key]:
        del index[key]


def _without_group(peer: Peer, group_id: str) -> Peer:
    return replace(peer, groups=tuple(g for g in peer.groups if g != group_id))


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Whose a key is: the account and the entity's id."""

    account: str
    id: str


class Intent:
    """All accounts at one LOG sequence, and the look-ups that cross accounts."""

    def __init__(self) -> None:
        self.sequence = 0
        self._accounts: dict[str, AccountState] = {}
        self._by_key: dict[Key, Owner] = {}
        self.accounts: Mapping[str, AccountState] = MappingProxyType(self._accounts)

    def peer_by_bus_key(self, bus_key: str) -> Owner | None:
        return self._by_key.get(("bus", bus_key))

    def peer_by_wireguard_key(self, wireguard_key: str) -> Owner | None:
        return self._by_key.get(("wireguard", wireguard_key))

    def setup_key_by_hash(self, key_hash: str) -> Owner | None:
        return self._by_key.get(("setup", key_hash))

    def access_token_by_hash(self, token_hash: str) -> Owner | None:
        return self._by_key.get(("token", token_hash))

    def apply(self, sequence: int, commit: Commit) -> list[Change]:
        """Fold the commit at `sequence`. One that was folded before changes nothing and gives []."""
        if sequence <= self.sequence:
            return []
        state = self._accounts.get(commit.account)
        if state is None:
            account = next(e for e in commit.upserts if isinstance(e, Account))
            state = self._accounts[commit.account] = AccountState(account)
        changes = state.apply(sequence, commit)
        for change in changes:
            for key in change.old.keys if change.old else ():
                self._by_key.pop(key, None)
        for change in changes:
            for key in change.new.keys if change.new else ():
                self._by_key[key] = Owner(commit.account, change.ref.id)
        self.sequence = sequence
        return changes

    def restore(self, sequence: int, revisions: Mapping[str, int], entities: Mapping[str, list[Entity]]) -> None:
        """Take over what a read model stored: per account its revision and its entities."""
        for account_id, stored in entities.items():
            account = next(e for e in stored if isinstance(e, Account))
            state = self._accounts[account_id] = AccountState(account)
            for entity in stored:
                state._put(entity)
                for key in entity.keys:
                    self._by_key[key] = Owner(account_id, entity.id)
            state.revision = revisions[account_id]
        self.sequence = sequence
