"""What `status -d --json` and `networks ls --json` show, and what the host reports of its routes.

Field names are NetBird's (reference agent §8), so that what reads its output reads ours; what it has no word for is
added. A time that never was is 0001-01-01T00:00:00Z, as Go writes it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from services.agent.core.desired_state import Desired
from services.agent.core.dns.learned import LearnedBefore
from services.agent.core.documents import Documents
from services.agent.core.ha.draining import is_replaceable
from services.agent.core.ha.returns import Returning
from services.agent.core.ha.standing import Carried, Health, Ranking
from services.agent.core.kernel import FORWARDER_PORT, MTU
from services.agent.core.parsed import Peer, Route, prefix_of
from services.agent.core.paths.candidates import local_endpoints
from services.agent.core.paths.pathbook import PathStatus
from services.agent.core.paths.whereabouts import Told
from services.agent.core.reconcile.desired import Local
from services.agent.core.routing.choices import exit_bases, selected
from services.agent.core.routing.destinations import covers
from services.agent.core.routing.fib import NO_ADDRESSES, NO_POLICY, NOBODY_CONNECTED, NOBODY_USABLE
from services.agent.core.routing.hagroups import HaGroup, HaKey, offered, serves
from services.agent.core.show.hasets import RankedPeer, nanoseconds, ranked_peers
from services.agent.core.show.times import NEVER, time_of
from shared.events.facts import RouteState

NAMED = 3
NARROW = (
    f"if large packets stall, a path is narrower than {MTU + 80} bytes and its ICMPv6 is filtered: "
    'let "packet too big" through there'
)
"""An IPv6 packet that carries the tunnel's largest has 40 bytes of IPv6, 8 of UDP and 32 of WireGuard more."""
ABSENT = PathStatus(word="Idle", endpoint="", last_handshake=0.0, rx_bytes=0, tx_bytes=0, changed_at=0.0)


class Forwarder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How this host answers for the names of routes that it serves.

    listening: addresses, all with `port`. unbound: address → why it cannot be asked there. nameservers: whom it asks.
    problem: why it cannot answer, "" otherwise. counts: what became of questions since it runs. learned: addresses that
    are permitted for now. left_out: name → why an address of it is not given.
    """

    port: int = FORWARDER_PORT
    names: tuple[str, ...]
    listening: tuple[str, ...]
    unbound: Mapping[str, str]
    nameservers: tuple[str, ...]
    problem: str
    counts: Mapping[str, int]
    learned: int
    left_out: Mapping[str, str]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What only the running agent knows. backend: "kernel" or "wireguard-go".

    pending: kernel entries that differ or failed, "kind key" → error or "". told: where other hosts may reach this one.
    health: peer id → what probes say of it. carried: route id → whether this host carries it. returning: return address
    → how it stands. now: monotonic seconds, wall: unix seconds, both at this moment.
    """

    version: str
    backend: str
    bus_url: str
    bus_connected: bool
    bus_error: str = ""
    applied_revision: int = 0
    pending: Mapping[str, str] = {}
    told: Told = Told()
    limit: str = ""
    health: Mapping[str, Health] = {}
    returning: Mapping[str, Returning] = {}
    connection_limit: str = ""
    carried: Mapping[str, Carried] = {}
    forwarder: Forwarder | None = None
    now: float = 0.0
    wall: float = 0.0


class ServedRoute(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A route that this host forwards for. network: or its domains. carried: whether it can now; reason: why not.

    probe: "up", "down" or "unknown", "" without a probe target. probe_fault: why the one it was given is not asked.
    """

    id: str
    network: str
    carried: bool
    reason: str
    probe: str
    probe_fault: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    connected: bool
    error: str


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    local: str = ""
    remote: str = ""


class PeerDetail(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """networks: prefixes and domains this peer carries for us now. latency: ns, 0 = not measured."""

    fqdn: str
    peer_id: str
    netbird_ip: str
    netbird_ipv6: str
    public_key: str
    status: str
    last_status_update: datetime
    connection_type: str
    ice_candidate_type: Pair
    ice_candidate_endpoint: Pair
    relay_address: str
    last_wireguard_handshake: datetime
    transfer_received: int
    transfer_sent: int
    latency: int
    quantum_resistance: bool
    networks: tuple[str, ...]


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    total: int
    connected: int
    details: tuple[PeerDetail, ...]


class Relays(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    available: int = 0
    details: tuple[str, ...] = ()


class SshServer(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = False
    sessions: tuple[str, ...] = ()


class ReturnAddress(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a LAN sends what is for the overlay, of routes that this host serves without masquerading.

    interface: into that LAN, "" without one. holder: the routing peer that has it instead, by its name, or by its id
    where this host sees no such peer; "" for nobody that is known. problem: why this host could not have it.
    """

    address: str
    interface: str
    held_here: bool
    holder: str
    problem: str


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """networks: what this host forwards for. pending: kernel entries as in About, a peer by its name. skipped: what is
    not used as it is → why; "route <network id> <where>", "peer <name>" or "rule <id> of policy <id>". local_endpoints:
    where other hosts are told to reach this one. not_told: this host's other addresses → why. limit: what
    does not work as it should with this WireGuard or with this agent's rights, and the remedy. path_limit: what will
    not where a path is as it should not be, which this host cannot find out, and the remedy. connection_limit: what
    does not become of connections when another routing peer carries them, and the remedy. drains: a stop waits for its
    clients to go to other routing peers. served: `networks`, and how they stand. return_addresses: of
    those among them. forwarder: None where it serves no name.
    """

    peers: Peers
    cli_version: str
    daemon_version: str
    daemon_status: str
    management: Server
    signal: Server
    relays: Relays = Relays()
    netbird_ip: str
    netbird_ipv6: str
    public_key: str
    uses_kernel_interface: bool
    wireguard_backend: str
    wireguard_port: int
    interface: str
    fqdn: str
    peer_id: str
    quantum_resistance: bool = False
    quantum_resistance_permissive: bool = False
    networks: tuple[str, ...]
    forwarding_rules: int = 0
    dns_servers: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    lazy_connection_enabled: bool = False
    profile_name: str = "default"
    ssh_server: SshServer = SshServer()
    desired_revision: int
    applied_revision: int
    pending: Mapping[str, str]
    skipped: Mapping[str, str] = msgspec.field(name="unplaced")
    local_endpoints: tuple[str, ...]
    not_told: Mapping[str, str]
    limit: str
    path_limit: str
    connection_limit: str
    drains: bool
    served: tuple[ServedRoute, ...] = ()
    return_addresses: tuple[ReturnAddress, ...] = ()
    forwarder: Forwarder | None = None


NAMES = {
    "resolved_ips": "resolvedIPs",
    "routing_peer": "carriedBy",
    "chosen_at": "chosenAt",
    "routing_peers": "routingPeers",
}


class RoutingPeer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The routing peer that carries a network for this host."""

    peer_id: str
    fqdn: str
    status: str


class NamedAddress(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """An address of a name of a route. source: who found it, the resolver or a routing peer that was asked from here.

    seen: when it was last seen; of one that the name has now the resolver tells when it was first.
    """

    name: str
    address: str
    source: Literal["resolver", "routing peer"]
    seen: datetime


class NetworkStatus(msgspec.Struct, frozen=True, kw_only=True, rename=NAMES):
    """An HA group, or an exit node of both families. network: "" for domains, "0.0.0.0/0, ::/0" for such an exit node.

    status: "Selected" or "Not Selected", as NetBird prints it. reason: why a selected one is not carried as it is.
    routing_peers: who may carry a selected one, best first. choice, chosen_at: why and when it became the first.
    """

    id: str
    network: str
    domains: tuple[str, ...]
    selected: bool
    status: str
    resolved_ips: Mapping[str, tuple[str, ...]]
    routing_peer: RoutingPeer | None
    reason: str
    choice: str
    chosen_at: datetime
    routing_peers: tuple[RankedPeer, ...]
    names: tuple[NamedAddress, ...] = ()


def status(
    documents: Documents, local: Local, desired: Desired, paths: Mapping[str, PathStatus], about: About
) -> Status:
    """The whole status. paths: PathBook.statuses()."""
    me = documents.self_doc
    details = tuple(
        _peer(peer, documents, desired, paths.get(peer.peer_id, ABSENT), about)
        for peer in sorted(documents.peers.values(), key=lambda peer: (peer.fqdn, peer.peer_id))
    )
    bus = Server(url=about.bus_url, connected=about.bus_connected, error=about.bus_error)
    addresses = sorted(address for link in desired.links.values() for address in link.addresses)
    return Status(
        peers=Peers(
            total=len(details),
            connected=sum(detail.status == "Connected" for detail in details),
            details=details,
        ),
        cli_version=about.version,
        daemon_version=about.version,
        daemon_status="Connected" if about.bus_connected else "Connecting",
        management=bus,
        signal=bus,
        netbird_ip=next((address for address in addresses if ":" not in address), ""),
        netbird_ipv6=next((address for address in addresses if ":" in address), ""),
        public_key=local.public_key,
        uses_kernel_interface=about.backend == "kernel",
        wireguard_backend=about.backend,
        wireguard_port=local.listen_port,
        interface=local.interface,
        fqdn=me.fqdn if me else "",
        peer_id=me.peer_id if me else "",
        networks=tuple(_where(route) for route_id, route in documents.routes.items() if route_id in desired.served),
        desired_revision=desired.revision,
        applied_revision=about.applied_revision,
        pending=_pending(about.pending, documents),
        skipped={_called(id, documents): reason for id, reason in desired.skipped.items()},
        local_endpoints=local_endpoints(about.told.addresses, local.listen_port),
        not_told=about.told.left_out,
        limit=about.limit,
        path_limit=_path_limit(details),
        connection_limit=about.connection_limit,
        return_addresses=tuple(_returned(one, documents) for _, one in sorted(about.returning.items())),
        forwarder=about.forwarder,
        drains=about.bus_connected and is_replaceable(documents, desired.served),
        served=tuple(
            _served(route, about.carried.get(route_id, Carried()))
            for route_id, route in documents.routes.items()
            if route_id in desired.served
        ),
    )


def _returned(one: Returning, documents: Documents) -> ReturnAddress:
    holder = documents.peers.get(one.holder)
    return ReturnAddress(
        address=one.address,
        interface=one.interface,
        held_here=one.here,
        holder="" if one.here else holder.fqdn if holder else one.holder,
        problem=one.problem,
    )


def networks(
    documents: Documents,
    local: Local,
    desired: Desired,
    paths: Mapping[str, PathStatus],
    rankings: Mapping[HaKey, Ranking] = {},
    health: Mapping[str, Health] = {},
    learned: LearnedBefore = LearnedBefore(),
) -> tuple[NetworkStatus, ...]:
    """The HA groups offered to this host, by prefix length, then address, then id; domains first.

    learned: when routing peers last answered what the documents have of it.
    """
    if documents.self_doc is None:
        return ()
    groups = offered(documents.routes.values(), documents.self_doc, documents.peers)
    bases = exit_bases(groups)
    entries: dict[tuple[str, str, tuple[str, ...]], list[HaGroup]] = {}
    for group in groups:
        base = bases[group.network_id] if group.is_exit else ""
        entries.setdefault((base, "", ()) if base else (group.network_id, group.network, group.domains), []).append(
            group
        )
    used = selected(local.selection, groups)
    shown = [
        _network(network_id, members, network_id in used, documents, desired, paths, rankings, health, learned)
        for (network_id, _, _), members in entries.items()
    ]
    return tuple(sorted(shown, key=_by_prefix))


def route_states(documents: Documents, desired: Desired, errors: Mapping[str, str]) -> tuple[RouteState, ...]:
    """What became of each route this host serves or uses. errors: prefix → what the kernel said of its route."""
    me = documents.self_doc
    states = []
    for route_id, route in documents.routes.items():
        carrier = desired.routing_peers.get(route_id, "")
        reason = desired.skipped.get(route_id, "") or errors.get(route.canonical, "")
        if me is not None and serves(me.peer_id, route):
            states.append(RouteState(route_id=route_id, state="failed" if reason else "serving", error=reason))
        elif reason in (NO_POLICY, NOBODY_CONNECTED, NOBODY_USABLE, NO_ADDRESSES):
            states.append(RouteState(route_id=route_id, state="waiting", error=reason))
        elif reason or carrier:
            state = "failed" if reason else "installed"
            states.append(RouteState(route_id=route_id, state=state, error=reason, routing_peer=carrier))
    return tuple(states)


def _path_limit(peers: Iterable[PeerDetail]) -> str:
    over_ipv6 = [peer.fqdn for peer in peers if peer.ice_candidate_endpoint.remote.startswith("[")]
    if not over_ipv6:
        return ""
    more = f" and {len(over_ipv6) - NAMED} more" if len(over_ipv6) > NAMED else ""
    return f"over IPv6 to {', '.join(over_ipv6[:NAMED])}{more}: {NARROW}"


def _peer(peer: Peer, documents: Documents, desired: Desired, path: PathStatus, about: About) -> PeerDetail:
    """Times and counts are blank unless the peer is connected, as NetBird shows it."""
    up = path.word == "Connected"
    carried = [route_id for route_id, peer_id in desired.routing_peers.items() if peer_id == peer.peer_id]
    return PeerDetail(
        fqdn=peer.fqdn,
        peer_id=peer.peer_id,
        netbird_ip=peer.address_v4,
        netbird_ipv6=peer.address_v6,
        public_key=peer.wireguard_key,
        status=path.word,
        last_status_update=time_of(about.wall - about.now + path.changed_at) if path is not ABSENT else NEVER,
        connection_type="P2P" if up else "-",
        ice_candidate_type=Pair(),
        ice_candidate_endpoint=Pair(remote=path.endpoint if up else ""),
        relay_address="",
        last_wireguard_handshake=time_of(path.last_handshake) if up else NEVER,
        transfer_received=path.rx_bytes if up else 0,
        transfer_sent=path.tx_bytes if up else 0,
        latency=nanoseconds(about.health.get(peer.peer_id)) if up else 0,
        quantum_resistance=False,
        networks=tuple(sorted({_where(documents.routes[route_id]) for route_id in carried})),
    )


def _served(route: Route, carried: Carried) -> ServedRoute:
    return ServedRoute(
        id=route.network_id,
        network=_where(route),
        carried=not carried.reason,
        reason=carried.reason,
        probe=carried.probe,
        probe_fault=carried.fault,
    )


def _pending(pending: Mapping[str, str], documents: Documents) -> dict[str, str]:
    peers = {f"peer {peer.wireguard_key}": f"peer {peer.fqdn}" for peer in documents.peers.values()}
    return {peers.get(entry, entry): error for entry, error in pending.items()}


def _called(id: str, documents: Documents) -> str:
    """What people know a document by."""
    if id in documents.routes:
        route = documents.routes[id]
        return f"route {route.network_id} {_where(route)}"
    if id in documents.peers:
        return f"peer {documents.peers[id].fqdn}"
    return f"rule {id} of policy {documents.rules[id].policy_id}" if id in documents.rules else id


def _network(
    network_id: str,
    groups: list[HaGroup],
    is_selected: bool,
    documents: Documents,
    desired: Desired,
    paths: Mapping[str, PathStatus],
    rankings: Mapping[HaKey, Ranking],
    health: Mapping[str, Health],
    learned: LearnedBefore,
) -> NetworkStatus:
    ranked = [(group, rankings[group.key]) for group in groups if is_selected and group.key in rankings]
    latest = max((ranking for _, ranking in ranked), key=lambda ranking: ranking.at, default=None)
    routes = [route for group in groups for route in group.routes]
    chosen = (desired.routing_peers.get(route.route_id, "") for route in routes)
    peer = documents.peers.get(next(filter(None, chosen), ""))
    reasons = (desired.skipped[route.route_id] for route in routes if route.route_id in desired.skipped)
    return NetworkStatus(
        id=network_id,
        network=", ".join(group.network for group in groups if group.network),
        domains=groups[0].domains,
        selected=is_selected,
        status="Selected" if is_selected else "Not Selected",
        resolved_ips=_resolved(routes, documents),
        routing_peer=_routing_peer(peer, paths) if peer else None,
        reason=next(reasons, "") if is_selected else "",
        choice=latest.reason if latest else "",
        chosen_at=time_of(latest.at) if latest else NEVER,
        routing_peers=tuple(
            one for group, ranking in ranked for one in ranked_peers(group, ranking, documents.peers, health)
        ),
        names=_named(groups, documents, learned),
    )


def _routing_peer(peer: Peer, paths: Mapping[str, PathStatus]) -> RoutingPeer:
    return RoutingPeer(peer_id=peer.peer_id, fqdn=peer.fqdn, status=paths.get(peer.peer_id, ABSENT).word)


def _resolved(routes: Iterable[Route], documents: Documents) -> dict[str, tuple[str, ...]]:
    """Name → its addresses, both sorted."""
    found: dict[str, set[str]] = {}
    for route in routes:
        resolution = documents.resolutions.get(route.route_id)
        for name in resolution.names if resolution else ():
            if any(covers(domain, name.name) for domain in route.domains):
                found.setdefault(name.name, set()).update(name.addresses)
    return {name: tuple(sorted(addresses)) for name, addresses in sorted(found.items())}


def _named(groups: Iterable[HaGroup], documents: Documents, learned: LearnedBefore) -> tuple[NamedAddress, ...]:
    """What `_resolved` gives, with who found it and when; sorted."""
    found = set[NamedAddress]()
    for group in groups:
        for key, names in learned.groups:
            for one in names if key == group.key else ():
                for address, at in one.addresses.items():
                    found.add(NamedAddress(name=one.name, address=address, source="routing peer", seen=time_of(at)))
        for route in group.routes:
            resolution = documents.resolutions.get(route.route_id)
            for name in resolution.names if resolution else ():
                if any(covers(domain, name.name) for domain in route.domains):
                    for address, at in zip(name.addresses, name.seen, strict=False):
                        found.add(NamedAddress(name=name.name, address=address, source="resolver", seen=time_of(at)))
    return tuple(sorted(found))


def _where(route: Route) -> str:
    return ", ".join(route.domains) if route.domains else route.canonical


def _by_prefix(one: NetworkStatus) -> tuple[int, str, str]:
    """Prefix length, then address, then id; domains first."""
    first = one.network.partition(",")[0]
    network = prefix_of(first)
    return network.prefixlen if network else -1, first, one.id
