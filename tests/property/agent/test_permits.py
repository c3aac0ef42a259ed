"""The table against the documents it is made of, read one by one for each packet."""

from collections.abc import Collection, Iterable
from ipaddress import ip_address, ip_network
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.documents import Documents
from services.agent.core.firewall.trace import State
from services.agent.core.reconcile.desired import Local, desired
from shared.events.documents import PeerDoc, Permit, RouteDoc, RuleDoc
from tests.fakes.kernel import FakeKernel
from tests.property.agent import worlds
from tests.unit.agent import make

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4")
PRIVATE_V6 = ("fc00::/7", "fe80::/10", "ff00::/8")
REFUSED = ("127.0.0.0/8", "nonsense")
OF_IPV6 = tuple(prefix for prefix in worlds.PREFIXES if ":" in prefix)


def within(address: str, prefixes: Iterable[str]) -> bool:
    mine = ip_address(address)
    return any(mine.version == ip_network(prefix).version and mine in ip_network(prefix) for prefix in prefixes)


def covering_lengths(route: RouteDoc, documents: Documents, address: str) -> list[int]:
    """Lengths of the route's prefixes that the address is in."""
    if within(address, (make.V4, make.V6)):
        return []
    if ":" in address and not (documents.self_doc and documents.self_doc.address_v6):
        return []
    if route.domains:
        names = ["a.example"] + (["www.b.example"] if "*.b.example" in route.domains else [])
        resolved = [text for name in names for text in worlds.RESOLVED[name] if text != "127.0.0.1"]
        return [128 if ":" in address else 32] if address in resolved else []
    if route.network in REFUSED or not within(address, [route.network]):
        return []
    length = ip_network(route.network).prefixlen
    return [] if length == 0 and within(address, (*PRIVATE, *PRIVATE_V6)) else [length]


def names(peer: PeerDoc, groups: Iterable[str], peers: Iterable[str]) -> bool:
    return bool(set(peer.groups) & set(groups)) or peer.peer_id in peers


def matches(one: Permit | RuleDoc, proto: str, port: int) -> bool:
    if one.protocol in ("all", "icmp"):
        return one.protocol == "all" or proto == "icmp"
    wanted = [(one.start, one.end) for one in one.ports]
    if one.protocol == "netbird-ssh":
        wanted = wanted or [(22, 22)]
    return proto == {"netbird-ssh": "tcp"}.get(one.protocol, one.protocol) and (
        not wanted or any(first <= port <= last for first, last in wanted)
    )


def decide(said: set[str], state: State) -> bool:
    """Drops come first, then replies, then what is permitted; nothing said is no (A7)."""
    return "drop" not in said and (state != "new" or "accept" in said)


def is_client(peer: PeerDoc, documents: Documents, withdrawn: Collection[str]) -> bool:
    """Whether this host serves and carries a route that is distributed to the peer."""
    serving = [route for id, route in documents.routes.items() if route.permits is not None and id not in withdrawn]
    refused = REFUSED if documents.self_doc and documents.self_doc.address_v6 else (*REFUSED, *OF_IPV6)
    usable = [route for route in serving if route.domains or route.network not in refused]
    return any(names(peer, route.distribution, ()) for route in usable)


def kernel_of(documents: Documents, local: Local) -> FakeKernel:
    kernel = FakeKernel()
    want = desired(documents, local)
    kernel.ruleset, kernel.links = want.ruleset, dict(want.links)
    kernel.sysctls = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
    return kernel


protocols = st.tuples(
    st.sampled_from(("tcp", "tcp", "udp", "icmp")),
    st.sampled_from(worlds.PORTS),
    st.sampled_from(("new", "new", "new", "reply", "related")),
)


@given(worlds.documents(), worlds.locals_(), st.lists(protocols, min_size=4, max_size=4))
def test_what_passes_is_what_the_permits_of_all_covering_routes_say_a2_a3_a5_a7(
    documents: Documents, local: Local, sent: list[tuple[str, int, State]]
) -> None:
    kernel = kernel_of(documents, local)
    serving = [route for route in documents.routes.values() if route.permits is not None]
    for address in worlds.ADDRESSES:
        covering = [route for route in serving if covering_lengths(route, documents, address)]
        for peer in documents.peers.values():
            src = peer.address_v6 if ":" in address else peer.address_v4
            if not src:
                continue
            for proto, port, state in sent:
                said: set[str] = {
                    one.action
                    for route in covering
                    for one in route.permits or ()
                    if names(peer, route.distribution, ())
                    if names(peer, one.sources, one.source_peers) and matches(one, proto, port)
                }
                passes = kernel.forwards(src, address, proto, port, state)
                assert passes == decide(said, state), (peer.peer_id, address, proto, port, state)


@given(worlds.documents(), worlds.locals_(), st.lists(protocols, min_size=9, max_size=9))
def test_what_reaches_the_host_is_what_its_peer_rules_say_a7_a8(
    documents: Documents, local: Local, sent: list[tuple[str, int, State]]
) -> None:
    kernel = kernel_of(documents, local)
    assert documents.self_doc is not None
    mine = make.peer("me", *documents.self_doc.groups)
    for (proto, port, state), peer in product(sent, documents.peers.values()):
        for src in filter(None, (peer.address_v4, peer.address_v6)):
            said = set[str]()
            for one in documents.rules.values():
                sides = [(one.sources, one.source_peers, one.destinations, one.destination_peers)]
                if one.bidirectional:
                    sides.append((one.destinations, one.destination_peers, one.sources, one.source_peers))
                for from_groups, from_peers, to_groups, to_peers in sides:
                    if names(mine, to_groups, to_peers) and names(peer, from_groups, from_peers):
                        said |= {one.action} if matches(one, proto, port) else set()
            assert kernel.accepts(src, proto, port, state) == decide(said, state), (peer.peer_id, proto, port)


@given(worlds.documents(), worlds.locals_())
def test_probes_are_answered_to_those_who_may_use_a_route_and_refused_where_none_is_carried_g2_g3(
    documents: Documents, local: Local
) -> None:
    table = desired(documents, local).ruleset
    assert table is not None
    held = {one.name: one.elements for one in table.sets}
    for peer in documents.peers.values():
        for family, address in (("v4", peer.address_v4), ("v6", peer.address_v6)):
            for name, withdrawn in (("clients", frozenset[str]()), ("carried", local.withdrawn)):
                if address:
                    expected = is_client(peer, documents, withdrawn)
                    assert (address in held[f"from_{name}_{family}"]) == expected, (name, peer.peer_id, address)


@given(worlds.documents(), worlds.locals_())
def test_masquerade_is_what_the_longest_covering_prefix_says_g10(documents: Documents, local: Local) -> None:
    kernel = kernel_of(documents, local)
    for address in worlds.ADDRESSES:
        lengths = {
            (length, route.masquerade)
            for route in documents.routes.values()
            if route.permits is not None
            for length in covering_lengths(route, documents, address)
        }
        src = "fd00:64::c" if ":" in address else "100.64.0.12"
        assert kernel.masquerades(src, address) == (max(lengths)[1] if lengths else False), address
