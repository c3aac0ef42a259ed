"""Peers: hosts with an agent."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, Router, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, permitted
from services.management.api.reach import Reach
from services.management.api.wire import GroupMinimum, Id, Nothing, about, asked, example, given, groups_minimum, moment
from services.management.core.commands import peers as commands
from services.management.core.commands.checks import found
from services.management.core.model.peer import Peer


class PeerBody(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str | None, about("Not empty; the DNS name follows it.", "gateway-1")] = None
    ssh_enabled: bool | None = None
    login_expiration_enabled: Annotated[bool | None, about("Only for hosts that a user enrolled.")] = None
    inactivity_expiration_enabled: Annotated[bool | None, about("Only for hosts that a user enrolled.")] = None
    approval_required: Annotated[bool | None, about("Every host is approved by its enrolment: false or absent.")] = None
    ip: Annotated[str | None, about("A free address of the overlay; absent leaves it.", "100.64.0.17")] = None
    ipv6: Annotated[str | None, about("A free address of the overlay; absent leaves it.")] = None


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
    city_name are not known. accessible_peers_count: only in lists, local_flags: only where one peer is answered.
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
    accessible_peers_count: int | msgspec.UnsetType = msgspec.UNSET
    local_flags: LocalFlags | msgspec.UnsetType = msgspec.UNSET


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


PEER = example(
    {
        "name": "gateway-1",
        "ssh_enabled": False,
        "login_expiration_enabled": False,
        "inactivity_expiration_enabled": False,
    }
)


@get("/")
async def list_peers(
    call: NamedDependency[Call],
    name: Annotated[str | None, asked("Only peers whose name holds this.")] = None,
    ip: Annotated[str | None, asked("Only peers whose overlay address holds this.")] = None,
) -> Response[list[PeerResponse]]:
    """Every peer of the account."""
    state, reach = call.state, Reach(call.state)
    peers = [peer for peer in by_id(state.peers) if (name or "") in peer.name and _has_address(peer, ip or "")]
    return call.answer(
        [msgspec.structs.replace(_shown(call, peer), accessible_peers_count=reach.count(peer)) for peer in peers]
    )


@get("/{id:str}")
async def get_peer(call: NamedDependency[Call], id: FromPath[str]) -> Response[PeerResponse]:
    """One peer."""
    return _one(call, found(call.state.peers, id, "peer"))


@put("/{id:str}", guards=[known(lambda state: state.peers, "peer")])
async def update_peer(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[PeerBody, PEER]
) -> Response[PeerResponse]:
    """Change a peer. A peer is created by enrolling."""
    request = given(data, commands.PeerRequest)
    return _one(call, await call.commit(lambda state, context: commands.update_peer(state, id, request, context)))


@delete("/{id:str}", status_code=200)
async def delete_peer(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a peer that nothing refers to; its host loses the connection."""
    await call.commit(lambda state, context: commands.delete_peer(state, id, context))
    return call.answer(Nothing())


@get("/{id:str}/accessible-peers")
async def list_accessible_peers(
    call: NamedDependency[Call], id: FromPath[str]
) -> Response[list[AccessiblePeerResponse]]:
    """The peers that a policy connects a peer with; none for an unknown peer."""
    state = call.state
    peer = state.peers.get(id)
    reached = sorted(Reach(state).of(peer)) if peer else []
    return call.answer([_accessible(call, state.peers[other]) for other in reached])


def _has_address(peer: Peer, text: str) -> bool:
    return text in peer.address_v4 or text in peer.address_v6


def _one(call: Call, peer: Peer) -> Response[PeerResponse]:
    shown = _shown(call, call.state.peers.get(peer.id, peer))
    return call.answer(msgspec.structs.replace(shown, local_flags=LocalFlags()))


def _shown(call: Call, peer: Peer) -> PeerResponse:
    state, report = call.state, call.deps.facts.report(call.account, peer.id)
    connected, last_seen = _session(call, peer)
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
        groups=groups_minimum(state, state.groups_of(peer)),
        ssh_enabled=peer.ssh_enabled,
        user_id=peer.user_id,
        hostname=report.hostname if report else peer.meta.hostname,
        ui_version="",
        dns_label=peer.fqdn(state.account.dns_domain),
        login_expiration_enabled=peer.login_expiration_enabled,
        login_expired=False,
        last_login=moment(peer.last_login),
        inactivity_expiration_enabled=peer.inactivity_expiration_enabled,
        approval_required=False,
        country_code="",
        city_name="",
        serial_number=peer.meta.serial_number,
        extra_dns_labels=peer.extra_fqdns(state.account.dns_domain),
        ephemeral=peer.ephemeral,
    )


def _accessible(call: Call, peer: Peer) -> AccessiblePeerResponse:
    connected, last_seen = _session(call, peer)
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


def _session(call: Call, peer: Peer) -> tuple[bool, datetime]:
    """Whether signal hears the peer, and since when that is so; a peer never heard was last seen at its login."""
    session = call.deps.facts.session(call.account, peer.id)
    if session is None:
        return False, moment(peer.last_login)
    return session.connected, moment(session.since)


router = Router(
    "/peers",
    route_handlers=[list_peers, get_peer, update_peer, delete_peer, list_accessible_peers],
    guards=[permitted("peers")],
    tags=["Peers"],
)
