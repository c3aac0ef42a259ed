"""Names that are answered from documents: those of the account's zones, and those of peers."""

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from services.agent.core.dns.names import Labels, labels
from services.agent.core.parsed import Peer
from shared.events.documents import DnsRecord, RecordType, SelfDoc, ZoneDoc

PEER_TTL_S = 300
"""As NetBird has it (reference control-plane §3.8)."""


class Presence(msgspec.Struct, frozen=True):
    """What of an answer depends on more than documents. connected: public keys with a session of WireGuard.

    ipv6: whether this host has an overlay address of that family. turn: how far records of one name are rotated.
    """

    connected: Collection[str] = ()
    ipv6: bool = True
    turn: int = 0


class OwnNames(Protocol):
    """Records by name."""

    def find(self, name: Labels, kind: str, presence: Presence) -> tuple[DnsRecord, ...] | None:
        """The records of that type, or the CNAME instead; () where the name has others, None where there is none."""


class ZoneNames:
    """Records of a zone of the account. `*.x` stands for what is below x and has no name of its own (RFC 4592)."""

    def __init__(self, zone: ZoneDoc) -> None:
        self._apex = labels(zone.domain)
        self._records: dict[Labels, list[DnsRecord]] = {}
        self._between = set[Labels]()
        for record in zone.records:
            name = labels(record.name)
            self._records.setdefault(name, []).append(record)
            self._between.update(name[start:] for start in range(1, len(name) - len(self._apex)))

    def find(self, name: Labels, kind: str, presence: Presence) -> tuple[DnsRecord, ...] | None:
        found = self._records.get(name)
        if found is None:
            found = None if name in self._between else self._wildcard(name)
        if found is None:
            return None
        same = [record for record in found if record.type == kind]
        return _turned(same or [record for record in found if record.type == "CNAME"], presence.turn)

    def _wildcard(self, name: Labels) -> list[DnsRecord] | None:
        """Of the closest encloser alone: a name that exists in between has no wildcard above it."""
        for start in range(1, len(name) - len(self._apex) + 1):
            suffix = name[start:]
            if found := self._records.get(("*", *suffix)):
                return found
            if suffix in self._records or suffix in self._between:
                return None
        return None


class PeerNames:
    """The labels of peers and of this host below the account's domain, which exists itself and has no address.

    Of several peers with one label those without a session are left out, unless none has one.
    """

    def __init__(self, domain: str, me: SelfDoc, peers: Mapping[str, Peer]) -> None:
        self._apex = labels(domain)
        self._domain = domain
        self._peers = peers
        self._me = me
        self._of: dict[Labels, list[str]] = {}
        own = {me.peer_id: me.labels}
        for peer_id, names in (own | {peer_id: peer.labels for peer_id, peer in peers.items()}).items():
            for label in names:
                self._of.setdefault((*labels(label), *self._apex), []).append(peer_id)

    def find(self, name: Labels, kind: str, presence: Presence) -> tuple[DnsRecord, ...] | None:
        if name == self._apex:
            return ()
        ids = self._of.get(name)
        if ids is None:
            return None
        if kind not in ("A", "AAAA") or (kind == "AAAA" and not presence.ipv6):
            return ()
        there = [id for id in ids if self._key(id) in presence.connected or id == self._me.peer_id]
        found = (self._address(id, kind) for id in there or ids)
        type_: RecordType = "A" if kind == "A" else "AAAA"
        written = ".".join(name)
        return _turned([DnsRecord(written, type_, address, PEER_TTL_S) for address in found if address], presence.turn)

    def _key(self, peer_id: str) -> str:
        return (self._peers.get(peer_id) or self._me).wireguard_key

    def _address(self, peer_id: str, kind: str) -> str:
        if peer_id == self._me.peer_id:
            return self._me.address_v4 if kind == "A" else self._me.address_v6
        return self._peers[peer_id].v4 if kind == "A" else self._peers[peer_id].v6


def _turned(records: list[DnsRecord], turn: int) -> tuple[DnsRecord, ...]:
    start = turn % len(records) if records else 0
    return (*records[start:], *records[:start])
