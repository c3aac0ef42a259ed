"""Peers as the API answers them, alone and in lists."""

from datetime import datetime
from operator import is_

import msgspec

from services.management.api.call import Call
from services.management.api.kept import Slices
from services.management.api.reach import Counts
from services.management.api.view import View, steps
from services.management.api.wire import GroupMinimum, Id, WarningResponse, groups_minimum, moment, without
from services.management.core.model.account import Account
from services.management.core.model.peer import Peer
from shared.events.facts import ReportFact, SessionFact


class LocalFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What a host's own settings switch off or on in NetBird's agent. Ours has none of these switches."""

    rosenpass_enabled: bool = False
    rosenpass_permissive: bool = False
    server_ssh_allowed: bool = False
    disable_client_routes: bool = False
    disable_server_routes: bool = False
    disable_dns: bool = False
    disable_firewall: bool = False
    block_lan_access: bool = False
    block_inbound: bool = False
    lazy_connection_enabled: bool = False


class PeerResponse(msgspec.Struct, frozen=True, kw_only=True):
    """last_seen: since when it is as `connected` says. version, kernel_version: as its agent last reported.

    ipv6: absent where the host has none. extra_dns_labels: whole names. connection_ip, geoname_id, country_code and
    city_name are not known. draining: people want clients to leave the routes that it serves.
    accessible_peers_count: only in lists; local_flags and warnings: only where one peer is answered.
    """

    id: Id
    name: str
    created_at: datetime
    ip: str
    ipv6: str | msgspec.UnsetType = msgspec.UNSET
    connection_ip: str
    connected: bool
    last_seen: datetime
    os: str
    kernel_version: str
    geoname_id: int
    version: str
    groups: list[GroupMinimum]
    ssh_enabled: bool
    user_id: str
    hostname: str
    ui_version: str
    dns_label: str
    login_expiration_enabled: bool
    login_expired: bool
    last_login: datetime
    inactivity_expiration_enabled: bool
    approval_required: bool
    country_code: str
    city_name: str
    serial_number: str
    extra_dns_labels: list[str]
    ephemeral: bool
    draining: bool
    accessible_peers_count: int | msgspec.UnsetType = msgspec.UNSET
    local_flags: LocalFlags | msgspec.UnsetType = msgspec.UNSET
    warnings: list[WarningResponse] | msgspec.UnsetType = msgspec.UNSET


class AccessiblePeerResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: Id
    name: str
    ip: str
    ipv6: str | msgspec.UnsetType = msgspec.UNSET
    dns_label: str
    user_id: str
    os: str
    country_code: str
    city_name: str
    geoname_id: int
    connected: bool
    last_seen: datetime


def shown(call: Call, peer: Peer) -> PeerResponse:
    """A peer of the account as it is now, with the groups that there are now."""
    facts, state = call.deps.facts, call.state
    of_peer = facts.session(call.account, peer.id), facts.report(call.account, peer.id)
    groups = groups_minimum(state, state.groups_of(peer))
    return _response(peer, *of_peer, state.account.dns_domain, groups)


def _response(
    peer: Peer, session: SessionFact | None, report: ReportFact | None, dns_domain: str, groups: list[GroupMinimum]
) -> PeerResponse:
    connected, last_seen = _session(peer, session)
    return PeerResponse(
        id=peer.id,
        name=peer.name,
        created_at=moment(peer.created_at),
        ip=peer.address_v4,
        ipv6=peer.address_v6 or msgspec.UNSET,
        connection_ip="",
        connected=connected,
        last_seen=last_seen,
        os=peer.meta.os,
        kernel_version=report.kernel if report else peer.meta.kernel_version,
        geoname_id=0,
        version=report.version if report else peer.meta.version,
        groups=groups,
        ssh_enabled=peer.ssh_enabled,
        user_id=peer.user_id,
        hostname=report.hostname if report else peer.meta.hostname,
        ui_version="",
        dns_label=peer.fqdn(dns_domain),
        login_expiration_enabled=peer.login_expiration_enabled,
        login_expired=False,
        last_login=moment(peer.last_login),
        inactivity_expiration_enabled=peer.inactivity_expiration_enabled,
        approval_required=False,
        country_code="",
        city_name="",
        serial_number=peer.meta.serial_number,
        extra_dns_labels=peer.extra_fqdns(dns_domain),
        ephemeral=peer.ephemeral,
        draining=peer.draining,
    )


def accessible(call: Call, peer: Peer) -> AccessiblePeerResponse:
    connected, last_seen = _session(peer, call.deps.facts.session(call.account, peer.id))
    return AccessiblePeerResponse(
        id=peer.id,
        name=peer.name,
        ip=peer.address_v4,
        ipv6=peer.address_v6 or msgspec.UNSET,
        dns_label=peer.fqdn(call.state.account.dns_domain),
        user_id=peer.user_id,
        os=peer.meta.os,
        country_code="",
        city_name="",
        geoname_id=0,
        connected=connected,
        last_seen=last_seen,
    )


def _session(peer: Peer, session: SessionFact | None) -> tuple[bool, datetime]:
    """Whether signal hears the peer, and since when that is so; a peer never heard was last seen at its login."""
    if session is None:
        return False, moment(peer.last_login)
    return session.connected, moment(session.since)


class _Entry(msgspec.Struct, frozen=True, gc=False):
    """A peer's entry of the list, without its groups and the number of peers that it reaches.

    groups: ids of its groups, sorted. The rest is what it was made of.
    """

    head: bytes
    tail: bytes
    groups: tuple[str, ...]
    account: Account
    peer: Peer
    session: SessionFact | None
    report: ReportFact | None

    def made_of(self, *parts: object) -> bool:
        return all(map(is_, parts, (self.account, self.peer, self.session, self.report)))


class Listed:
    """The entries of one account's peers, encoded when the peer or its facts are others than at the last list."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    async def entries(self, call: Call, view: View, counts: Counts, slices: Slices) -> list[bytes]:
        """Each peer of the view as it is in the list, with its facts as they are now."""
        groups = {id: msgspec.json.encode(_minimum(view, id)) for id in view.groups}
        found: list[bytes] = []
        for some in steps(view.peers):
            for peer in some:
                entry = self._entry(call, view, peer)
                of_groups = b",".join([groups[id] for id in entry.groups if id in groups])
                found.append(b"%b[%b]%b%d}" % (entry.head, of_groups, entry.tail, counts.of(peer)))
            await slices.turn()
        if len(self._entries) > len(view.peers):
            self._entries = {peer.id: self._entries[peer.id] for peer in view.peers if peer.id in self._entries}
        return found

    def _entry(self, call: Call, view: View, peer: Peer) -> _Entry:
        facts, account, known = call.deps.facts, view.account, self._entries.get(peer.id)
        session, report = facts.session(call.account, peer.id), facts.report(call.account, peer.id)
        if known and known.made_of(account, peer, session, report):
            return known
        groups = tuple(sorted({*peer.groups, account.all_group}))
        head, tail = without(_response(peer, session, report, account.dns_domain, []), "groups")
        entry = _Entry(head, tail[:-1] + b',"accessible_peers_count":', groups, account, peer, session, report)
        self._entries[peer.id] = entry
        return entry


def _minimum(view: View, group_id: str) -> GroupMinimum:
    group = view.groups[group_id]
    count = len(view.members.get(group_id, ()))
    return GroupMinimum(id=group.id, name=group.name, peers_count=count, resources_count=0, issued=group.issued)
