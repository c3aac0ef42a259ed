"""Random documents as one host may hold them, over names and prefixes so few that everything soon overlaps."""

from hypothesis import strategies as st

from services.agent.core.documents import Documents
from services.agent.core.reconcile.desired import Local
from services.agent.core.routing.choices import Selection
from shared.events.documents import PeerDoc, Permit, PortRange, RouteDoc, RuleDoc
from tests.unit.agent import make
from tests.unit.agent.make import ALL

GROUPS = ("ga", "gb", "gc", ALL)
PEERS = ("p1", "p2", "p3", "p4")
PREFIXES = (
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.3.0/24",
    "10.1.2.128/25",
    "10.1.2.7/32",
    "192.0.2.0/24",
    "100.0.0.0/7",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::7/128",
    "::/0",
    "fd00:64::/48",
    "127.0.0.0/8",
    "nonsense",
)
NAMES = ("a.example", "*.b.example")
RESOLVED = {
    "a.example": ("10.1.2.7", "203.0.113.9", "2001:db8:1::7", "127.0.0.1", "100.64.0.9"),
    "www.b.example": ("203.0.113.9", "203.0.113.10"),
    "b.example": ("203.0.113.11",),
}
ADDRESSES = (
    "10.0.0.1",
    "10.1.0.1",
    "10.1.2.1",
    "10.1.2.7",
    "10.1.2.200",
    "10.1.3.1",
    "10.255.255.255",
    "11.0.0.0",
    "192.0.2.1",
    "203.0.113.9",
    "203.0.113.10",
    "203.0.113.11",
    "100.1.1.1",
    "100.64.0.12",
    "100.64.9.9",
    "127.0.0.1",
    "0.0.0.1",
    "255.255.255.254",
    "2001:db8::1",
    "2001:db8:1::7",
    "2001:db9::1",
    "fd00:64::c",
    "fd00:64:0:1::1",
    "fd12::1",
    "2a00::1",
)
PORTS = (22, 79, 80, 81, 443, 8080, 65535)

some_groups = st.lists(st.sampled_from(GROUPS), max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
some_peers = st.lists(st.sampled_from((*PEERS, "me")), max_size=2, unique=True).map(lambda found: tuple(sorted(found)))
actions = st.sampled_from(("accept", "accept", "accept", "drop"))
protocols = st.sampled_from(("all", "tcp", "tcp", "udp", "icmp", "netbird-ssh"))


@st.composite
def port_lists(draw: st.DrawFn, protocol: str) -> tuple[PortRange, ...]:
    if protocol in ("all", "icmp"):
        return ()
    edges = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(sorted)
    return tuple(PortRange(first, last) for first, last in draw(st.lists(edges, max_size=3)))


@st.composite
def permits(draw: st.DrawFn, number: int) -> Permit:
    protocol = draw(protocols)
    return make.permit(
        f"r{number}",
        *draw(some_groups),
        action=draw(actions),
        protocol=protocol,
        ports=draw(port_lists(protocol)),
        source_peers=draw(some_peers),
    )


@st.composite
def routes(draw: st.DrawFn, name: str) -> RouteDoc:
    serving = draw(st.booleans())
    others = draw(st.lists(st.sampled_from(PEERS), min_size=0 if serving else 1, max_size=2, unique=True))
    domains = draw(st.sampled_from(((), (), (), ("a.example",), NAMES)))
    return make.route(
        name,
        draw(st.sampled_from(PREFIXES)),
        by=(*others, *(("me",) if serving else ())),
        network_id=draw(st.sampled_from(("n1", "n2", name))),
        domains=domains,
        metric=draw(st.sampled_from((1, 9999))),
        masquerade=draw(st.booleans()),
        keep_route=draw(st.booleans()),
        skip_auto_apply=draw(st.booleans()),
        distribution=draw(some_groups),
        permits=tuple(draw(permits(number)) for number in range(draw(st.integers(0, 3)))) if serving else None,
    )


@st.composite
def rules(draw: st.DrawFn, name: str) -> RuleDoc:
    protocol = draw(protocols)
    return make.rule(
        name,
        draw(some_groups),
        draw(some_groups),
        action=draw(actions),
        protocol=protocol,
        ports=draw(port_lists(protocol)),
        bidirectional=draw(st.booleans()),
        source_peers=draw(some_peers),
        destination_peers=draw(some_peers),
    )


@st.composite
def peers(draw: st.DrawFn, number: int, name: str) -> PeerDoc:
    groups = draw(some_groups)
    return make.peer(name, *groups, number=10 + number, v6=draw(st.sampled_from((None, None, ""))))


@st.composite
def documents(draw: st.DrawFn) -> Documents:
    present = draw(st.lists(st.sampled_from(PEERS), unique=True))
    names = [f"r{number}" for number in range(draw(st.integers(0, 5)))]
    return make.documents(
        make.me("me", *draw(some_groups), v6=draw(st.sampled_from(("fd00:64::1", "fd00:64::1", "")))),
        [draw(peers(PEERS.index(name), name)) for name in present],
        rules=[draw(rules(f"q{number}")) for number in range(draw(st.integers(0, 4)))],
        routes=[draw(routes(name)) for name in names],
        resolutions=[
            make.resolution(name, **{host.replace(".", "_"): found for host, found in RESOLVED.items()})
            for name in names
        ],
        revision=draw(st.integers(1, 9)),
    )


@st.composite
def locals_(draw: st.DrawFn) -> Local:
    ids = st.frozensets(st.sampled_from(("n1", "n2", "r0")), max_size=2)
    return make.local(
        draw(st.lists(st.sampled_from(PEERS), unique=True)),
        selection=Selection(selected=draw(ids), deselected=draw(ids), none=draw(st.sampled_from((False, False, True)))),
        endpoints=draw(st.dictionaries(st.sampled_from(PEERS), st.sampled_from(("192.0.2.9:1", "[2001:db8::9]:2")))),
        sysctls={"net/ipv4/conf/all/rp_filter": "1", "net/ipv4/ip_forward": "0", "net/ipv6/conf/eth0/accept_ra": "1"},
        withdrawn=draw(st.frozensets(st.sampled_from(("r0", "r1", "r2")), max_size=2)),
    )


NESTED = ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0")


@st.composite
def client_routes(draw: st.DrawFn, name: str) -> RouteDoc:
    return make.route(
        name,
        draw(st.sampled_from(NESTED)),
        by=draw(st.lists(st.sampled_from(PEERS), min_size=1, max_size=2, unique=True)),
        metric=draw(st.sampled_from((1, 9999))),
        keep_route=draw(st.booleans()),
    )


@st.composite
def clients(draw: st.DrawFn) -> tuple[Documents, Local]:
    """A host that uses routes of many routing peers, nearly all connected: much moves, little is missing."""
    found = make.documents(
        make.me("me"),
        [make.peer(name, number=10 + number) for number, name in enumerate(PEERS)],
        routes=[draw(client_routes(f"r{number}")) for number in range(draw(st.integers(0, 4)))],
    )
    return found, make.local(draw(st.sets(st.sampled_from(PEERS), min_size=2)))


def hosts() -> st.SearchStrategy[tuple[Documents, Local]]:
    """What one host holds and knows, of either sort."""
    return st.one_of(clients(), st.tuples(documents(), locals_()))
