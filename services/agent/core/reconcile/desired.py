"""From documents and what is known on this host to the state the kernel shall have: the same input, the same state.

One route, rule or peer that makes no sense never stops the others: it is left out and named in `unplaced`.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.firewall.permits import Match, fault, input_matches, route_matches
from services.agent.core.firewall.ruleset import ruleset
from services.agent.core.firewall.served import Served
from services.agent.core.kernel import CONTROL_MARK, INTERFACE, MTU, Link, WireGuardDevice, WireGuardPeer
from services.agent.core.parsed import Peer, address_of, prefix_of
from services.agent.core.reconcile.desired_state import Desired
from services.agent.core.reconcile.sysctls import has_v6, wanted
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.destinations import Overlay, destinations, overlay_of
from services.agent.core.routing.fib import fib
from services.agent.core.routing.hagroups import EXITS, serves
from services.agent.core.routing.policyrules import policy_rules
from shared.events.documents import Permit, RuleDoc

R = TypeVar("R", RuleDoc, Permit)


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What this host itself knows. Peers are named by peer id.

    public_key: of the device. listen_port: the port the device has. ipv6: whether the host's kernel has IPv6.
    endpoints: PathBook.endpoints(), absent or "" leaves a peer's endpoint alone. connected: PathBook.connected().
    carriers: those of the last Desired. sysctls: current values of `sysctls.watched`, originals: the journal.
    """

    public_key: str
    listen_port: int
    interface: str = INTERFACE
    mtu: int = MTU
    ipv6: bool = True
    selection: Selection = Selection()
    endpoints: Mapping[str, str] = {}
    connected: frozenset[str] = frozenset()
    carriers: Mapping[str, str] = {}
    sysctls: Mapping[str, str] = {}
    originals: Mapping[str, str] = {}


def desired(documents: Documents, local: Local) -> Desired:
    """The whole desired state. Without documents: a closed host with a device, and no address, peer or route."""
    local = replace(local, ipv6=local.ipv6 and has_v6(local.sysctls))
    overlay = overlay_of(documents.settings, documents.self_doc, ipv6=local.ipv6)
    known, bad_peers = _known_peers(documents, local, overlay)
    documents = replace(documents, peers=known)
    routes = fib(
        documents,
        overlay=overlay,
        selection=local.selection,
        connected=local.connected,
        incumbents=local.carriers,
        interface=local.interface,
        ipv6=local.ipv6,
    )
    served, unserved = _served(documents, overlay)
    inputs, bad_rules = _inputs(documents)
    versions = {network.version for route in served for network in route.networks}
    return Desired(
        revision=documents.revision,
        links={local.interface: _link(documents, local, overlay)},
        devices={local.interface: _device(local)},
        peers=_peers(documents, local, overlay, routes.allowed),
        routes=routes.routes,
        rules=policy_rules(
            ipv6=local.ipv6, closed=[family for family, exit_ in EXITS.items() if exit_ in routes.routes]
        ),
        ruleset=ruleset(
            interface=local.interface,
            mtu=local.mtu,
            listen_port=local.listen_port,
            overlay=overlay.networks,
            inputs=inputs,
            served=served,
            peers=documents.peers,
        ),
        sysctls=wanted(
            forward_v4=4 in versions, forward_v6=6 in versions, current=local.sysctls, originals=local.originals
        ),
        unplaced={**routes.unplaced, **unserved, **bad_rules, **bad_peers},
        carriers=routes.carriers,
        served=frozenset(route.route_id for route in served),
    )


def _link(documents: Documents, local: Local, overlay: Overlay) -> Link:
    me, settings = documents.self_doc, documents.settings
    addresses = set[str]()
    if me is not None and settings is not None:
        addresses.update(_with_length(me.address_v4, settings.overlay_v4))
        if overlay.ipv6:
            addresses.update(_with_length(me.address_v6, settings.overlay_v6))
    return Link(name=local.interface, mtu=local.mtu, up=True, addresses=frozenset(addresses))


def _with_length(address: str, network: str) -> Iterable[str]:
    """The address with the length of the prefix it lies in; nothing when either makes no sense."""
    prefix, canonical = prefix_of(network), address_of(address)
    if canonical is not None and prefix is not None:
        yield f"{canonical}/{prefix.prefixlen}"


def _device(local: Local) -> WireGuardDevice:
    return WireGuardDevice(public_key=local.public_key, listen_port=local.listen_port, fwmark=CONTROL_MARK)


def _known_peers(documents: Documents, local: Local, overlay: Overlay) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that make sense, and why the others do not. Of two with the same key or address the lower id stays.

    What is left out is nobody: it carries no route, and its address has no rights of its groups.
    """
    known: dict[str, Peer] = {}
    bad: dict[str, str] = {}
    keys, addresses = {local.public_key}, _own_addresses(documents)
    for peer_id, peer in documents.peers.items():
        own = _addresses(peer, overlay)
        reason = _peer_fault(peer, own, keys, addresses)
        if reason:
            bad[peer_id] = reason
        else:
            known[peer_id] = peer
            keys.add(peer.wireguard_key)
            addresses |= own
    return known, bad


def _peers(
    documents: Documents, local: Local, overlay: Overlay, routed: Mapping[str, frozenset[str]]
) -> dict[str, WireGuardPeer]:
    """Public key → peer. A routed prefix that is somebody's overlay address stays with its owner."""
    own = {peer_id: _addresses(peer, overlay) for peer_id, peer in documents.peers.items()}
    owned = _own_addresses(documents).union(*own.values())
    return {
        peer.wireguard_key: WireGuardPeer(
            public_key=peer.wireguard_key,
            allowed_ips=own[peer_id] | (routed.get(peer_id, frozenset()) - owned),
            endpoint=local.endpoints.get(peer_id, ""),
        )
        for peer_id, peer in documents.peers.items()
    }


def _addresses(peer: Peer, overlay: Overlay) -> frozenset[str]:
    return frozenset(_alone(address) for address in (peer.v4, peer.v6 if overlay.ipv6 else "") if address)


def _peer_fault(peer: Peer, own: frozenset[str], keys: set[str], addresses: set[str]) -> str:
    if not peer.has_key:
        return "its WireGuard key is none"
    if peer.wireguard_key in keys:
        return "its WireGuard key belongs to another host"
    if not own:
        return "it has no overlay address"
    taken = min(own & addresses, default="")
    return f"its overlay address {taken} belongs to another host" if taken else ""


def _own_addresses(documents: Documents) -> set[str]:
    me = documents.self_doc
    found = map(address_of, (me.address_v4, me.address_v6) if me else ())
    return {_alone(str(address)) for address in found if address is not None}


def _alone(address: str) -> str:
    """The prefix of full length of an address."""
    return f"{address}/{128 if ':' in address else 32}"


def _served(documents: Documents, overlay: Overlay) -> tuple[list[Served], dict[str, str]]:
    """What this host forwards for, and why not, or not wholly."""
    me = documents.self_doc
    served: list[Served] = []
    bad: dict[str, str] = {}
    for route in documents.routes.values():
        if me is None or not serves(me.peer_id, route):
            continue
        found = destinations(route, documents.resolutions.get(route.route_id), overlay)
        faults = [
            f"a permit of rule {permit.rule_id}: {fault(permit)}" for permit in route.permits or () if fault(permit)
        ]
        if found.refused or faults:
            bad[route.route_id] = found.refused or faults[0]
        if not found.refused:
            permits = tuple(permit for permit in map(_made_usable, route.permits or ()) if permit is not None)
            served.append(
                Served(
                    route_id=route.route_id,
                    networks=found.networks,
                    masquerade=route.masquerade,
                    matches=route_matches(replace(route, permits=permits), documents.rules),
                )
            )
    return served, bad


def _inputs(documents: Documents) -> tuple[list[Match], dict[str, str]]:
    """What peer rules say of traffic to this host, and the rules that make no sense."""
    me = documents.self_doc
    audiences = me.audiences if me is not None else ()
    bad = {rule.rule_id: fault(rule) for rule in documents.rules.values() if fault(rule)}
    rules = [rule for rule in map(_made_usable, documents.rules.values()) if rule is not None]
    return [match for rule in rules for match in input_matches(rule, audiences)], bad


def _made_usable(rule: R) -> R | None:
    """The rule; one that makes no sense permits nothing, and drops whatever its ports were meant to narrow down."""
    if not fault(rule):
        return rule
    return replace(rule, ports=()) if rule.action == "drop" else None
