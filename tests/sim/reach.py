"""Who reaches what, read from intent alone: every rule expanded to pairs of peers, every route to its routing peers."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

from services.management.core.model.peer import Peer
from services.management.core.model.policy import PolicyRule, ResourceRef
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from tests.sim.fates import Fate


def is_member(state: AccountState, peer: Peer, groups: Iterable[str], resource: ResourceRef | None = None) -> bool:
    directly = resource is not None and resource.type == "peer" and resource.id == peer.id
    return directly or bool({*peer.groups, state.account.all_group} & set(groups))


def rules(state: AccountState) -> list[PolicyRule]:
    return [rule for policy in state.policies.values() if policy.enabled for rule in policy.rules if rule.enabled]


def is_source(state: AccountState, rule: PolicyRule, peer: Peer) -> bool:
    return is_member(state, peer, rule.sources, rule.source_resource)


def is_destination(state: AccountState, rule: PolicyRule, peer: Peer) -> bool:
    return is_member(state, peer, rule.destinations, rule.destination_resource)


def connected(state: AccountState, one: Peer, other: Peer) -> bool:
    """Whether a policy connects them, whatever it says (C4)."""
    return one.id != other.id and any(
        (is_source(state, rule, one) and is_destination(state, rule, other))
        or (is_source(state, rule, other) and is_destination(state, rule, one))
        for rule in rules(state)
    )


def accepts(state: AccountState, source: Peer, target: Peer, port: int) -> bool:
    """Whether a new TCP connection between two peers is accepted: drops come first (A7), nothing said is no (A8)."""
    said = set[str]()
    for rule in rules(state):
        there = is_source(state, rule, source) and is_destination(state, rule, target)
        back = rule.bidirectional and is_source(state, rule, target) and is_destination(state, rule, source)
        if source.id != target.id and (there or back) and has_port(rule, port):
            said.add(rule.action)
    return said == {"accept"}


def has_port(rule: PolicyRule, port: int) -> bool:
    """Ports win over ranges (reference control-plane §3, 6); neither means every port."""
    if rule.ports:
        return str(port) in rule.ports
    return not rule.port_ranges or any(one.start <= port <= one.end for one in rule.port_ranges)


def routing_peers(state: AccountState, route: Route) -> list[Peer]:
    return [peer for peer in state.peers.values() if peer.id == route.peer or is_member(state, peer, route.peer_groups)]


def prefixes(route: Route, names: dict[str, str]) -> list[str]:
    """names: domain → its one address."""
    return [f"{names[domain]}/32" for domain in route.domains] if route.domains else [route.network]


def covers(prefix: str, address: str) -> bool:
    network = ip_network(prefix)
    return network.version == ip_address(address).version and ip_address(address) in network


def right_routing_peers(
    state: AccountState, fates: Mapping[str, Fate], client: Peer, address: str, names: dict[str, str]
) -> set[str]:
    """Ids of the routing peers that may carry the client's packets to the address; any of them is right.

    The longest prefix counts. Of those with an HA set to themselves, usable ones that neither drain nor lack an agent
    come first, then metric; one that carried already when its agent went may go on. Among sets, the metric of whom each
    has chosen. Who serves a destination goes there itself (R5, C4).
    """
    own = {key(route) for route in state.routes.values() if route.enabled and client in routing_peers(state, route)}
    sets: dict[tuple[int, str, tuple[str, frozenset[str]]], list[tuple[Fate, int, str]]] = {}
    for route in state.routes.values():
        if not route.enabled or key(route) in own or not is_member(state, client, route.groups):
            continue
        for prefix in (prefix for prefix in prefixes(route, names) if covers(prefix, address)):
            found = sets.setdefault((-ip_network(prefix).prefixlen, route.network_id, key(route)), [])
            found += [
                (fates[peer.id], route.metric, peer.id)
                for peer in routing_peers(state, route)
                if connected(state, client, peer) and is_usable(fates[peer.id])
            ]
    longest = min((length for (length, _, _), candidates in sets.items() if candidates), default=0)
    choices = [_choices(found) for (length, _, _), found in sets.items() if length == longest and found]
    most = sorted(max(metric for metric, _ in one) for one in choices)
    return {peer for one in choices for metric, peer in one if metric <= most[0]}


def _choices(candidates: Iterable[tuple[Fate, int, str]]) -> set[tuple[int, str]]:
    """Metric and id of each that the set may have chosen."""
    found = set[tuple[int, str]]()
    for rank in (grade, lambda fate: 2 if fate.draining else 0):
        ranked = [((rank(fate), metric), peer) for fate, metric, peer in candidates]
        best = min(ranked)[0]
        found |= {(place[1], peer) for place, peer in ranked if place == best}
    return found


def is_usable(fate: Fate) -> bool:
    return fate.dead_since is None and not fate.legless


def grade(fate: Fate) -> int:
    return 2 if fate.draining else 1 if fate.frozen else 0


def key(route: Route) -> tuple[str, frozenset[str]]:
    return route.network, frozenset(route.domains)


def forwards(state: AccountState, gateway: Peer, source: Peer, address: str, port: int, names: dict[str, str]) -> bool:
    """Whether the gateway lets a new TCP connection of the source through: what all its routes say (A1-A3, A7)."""
    said = set[str]()
    for route in state.routes.values():
        there = any(covers(prefix, address) for prefix in prefixes(route, names))
        serves = route.enabled and gateway in routing_peers(state, route)
        if not (there and serves and is_member(state, source, route.groups)):
            continue
        if not route.access_control_groups:
            said.add("accept")
        for rule in rules(state):
            named = set(rule.destinations) & set(route.access_control_groups)
            if named and is_source(state, rule, source) and has_port(rule, port):
                said.add(rule.action)
    return said == {"accept"}
