"""Random histories of one account, over names so few that everything soon refers to everything."""

from hypothesis import strategies as st

from services.management.core.entities import Entity, Ref
from services.management.core.feed.unit import LastWord, Observed
from services.management.core.model.account import AccountSettings
from services.management.core.model.commit import Commit
from services.management.core.model.dnssettings import DNS_SETTINGS_ID
from services.management.core.model.policy import PolicyRule, ResourceRef
from services.management.core.model.upstreams import Upstream
from services.management.core.state import Change, Intent
from shared.events.documents import PortRange, ResolvedAddress, ResolvedName, Withdrawn
from tests import builders
from tests.builders import ACCOUNT, ALL

GROUPS = ("g0", "g1", "g2", "g3")
PEERS = ("p0", "p1", "p2", "p3", "p4")
POLICIES = ("q0", "q1", "q2")
ROUTES = ("r0", "r1", "r2")
NAMESERVERS = ("n0", "n1")
ZONES = ("z0.example", "z1.example")
RECORDS = ("a.example", "b.example", "c.example")
DOMAINS = ("a.example", "b.example")
UPSTREAMS = (Upstream(ip="192.0.2.53", ns_type="tls", port=853, name="dns.example"),)

some_groups = st.lists(st.sampled_from((*GROUPS, ALL)), max_size=3, unique=True).map(lambda g: tuple(sorted(g)))
own_groups = st.lists(st.sampled_from(GROUPS), max_size=3, unique=True)
versions = st.sampled_from(("1.0.0", "1.0.0", "0.59.0", "0.58.9", "development", ""))
nearly_always = st.sampled_from((True, True, True, False))


@st.composite
def peers(draw: st.DrawFn, name: str = "") -> Entity:
    name = name or draw(st.sampled_from(PEERS))
    meta = builders.meta(name)
    meta = type(meta)(hostname=name, version=draw(versions))
    labels = draw(st.sampled_from(((), ("db",), ("db", "web"))))
    return builders.peer(
        name,
        *draw(own_groups),
        extra_dns_labels=labels,
        meta=meta,
        draining=draw(st.sampled_from((False, False, True))),
    )


@st.composite
def rules(draw: st.DrawFn, name: str) -> PolicyRule:
    named_peer = st.sampled_from(PEERS).map(lambda peer: ResourceRef(id=peer, type="peer"))
    resource = st.none() | named_peer | st.just(ResourceRef(id="10.0.0.1", type="host"))
    source, destination = draw(resource), draw(resource)
    return builders.rule(
        name,
        enabled=draw(nearly_always),
        action=draw(st.sampled_from(("accept", "drop"))),
        bidirectional=draw(st.booleans()),
        protocol="tcp",
        ports=draw(st.sampled_from(((), ("80",), ("443", "80")))),
        port_ranges=draw(st.sampled_from(((), (PortRange(1, 9),)))),
        sources=() if source else draw(some_groups),
        destinations=() if destination else draw(some_groups),
        source_resource=source,
        destination_resource=destination,
    )


@st.composite
def policies(draw: st.DrawFn) -> Entity:
    name = draw(st.sampled_from(POLICIES))
    count = draw(st.integers(1, 3))
    return builders.policy(
        name, *(draw(rules(f"{name}-{number}")) for number in range(count)), enabled=draw(nearly_always)
    )


@st.composite
def routes(draw: st.DrawFn) -> Entity:
    one_peer = draw(st.booleans())
    return builders.route(
        draw(st.sampled_from(ROUTES)),
        network_id=draw(st.sampled_from(("lan", "lan", "dmz"))),
        domains=draw(st.sampled_from(((), DOMAINS, DOMAINS[:1]))),
        enabled=draw(nearly_always),
        peer=draw(st.sampled_from(("", *PEERS))) if one_peer else "",
        peer_groups=() if one_peer else draw(some_groups),
        groups=draw(some_groups),
        access_control_groups=draw(some_groups),
        metric=draw(st.integers(1, 3)),
    )


@st.composite
def nameserver_groups(draw: st.DrawFn) -> Entity:
    return builders.nameserver_group(
        draw(st.sampled_from(NAMESERVERS)),
        *draw(st.sampled_from(((), DOMAINS))),
        enabled=draw(nearly_always),
        groups=draw(some_groups),
        search_domains_enabled=draw(st.booleans()),
    )


@st.composite
def zones(draw: st.DrawFn) -> Entity:
    return builders.zone(
        draw(st.sampled_from(ZONES)),
        enabled=draw(nearly_always),
        enable_search_domain=draw(st.booleans()),
        distribution_groups=draw(some_groups),
    )


@st.composite
def zone_records(draw: st.DrawFn) -> Entity:
    name = draw(st.sampled_from(RECORDS))
    return builders.zone_record(draw(st.sampled_from(ZONES)), name, ttl=draw(st.sampled_from((0, 300))))


@st.composite
def accounts(draw: st.DrawFn) -> Entity:
    plain = builders.account()
    return type(plain)(
        id=plain.id,
        network_v4=plain.network_v4,
        network_v6=plain.network_v6,
        dns_domain=draw(st.sampled_from((plain.dns_domain, "other.test"))),
        all_group=plain.all_group,
        created_at=plain.created_at,
        settings=AccountSettings(
            routing_peer_dns_resolution_enabled=draw(st.booleans()),
            resolver_nameservers=draw(st.sampled_from(((), UPSTREAMS))),
        ),
    )


refs = (
    st.sampled_from(PEERS).map(lambda name: Ref("peer", name))
    | st.sampled_from(GROUPS).map(lambda name: Ref("group", name))
    | st.sampled_from(POLICIES).map(lambda name: Ref("policy", name))
    | st.sampled_from(ROUTES).map(lambda name: Ref("route", name))
    | st.sampled_from(NAMESERVERS).map(lambda name: Ref("nameserver-group", name))
    | st.sampled_from(ZONES).map(lambda name: Ref("zone", name))
    | st.sampled_from(RECORDS).map(lambda name: Ref("zone-record", name))
    | st.just(Ref("dns-settings", DNS_SETTINGS_ID))
)

entities = (
    peers()
    | policies()
    | routes()
    | accounts()
    | nameserver_groups()
    | zones()
    | zone_records()
    | some_groups.map(lambda groups: builders.dns_settings(*groups))
    | st.sampled_from(GROUPS).map(builders.group)
    | st.just(builders.setup_key("key", auto_groups=("g0",)))
)


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """Up to three entities at once, no entity twice."""
    upserts = draw(st.lists(entities, max_size=3, unique_by=lambda entity: entity.id))
    deletes = draw(st.lists(refs, min_size=0 if upserts else 1, max_size=2, unique=True))
    taken = {entity.id for entity in upserts}
    return builders.commit(*upserts, deletes=[ref for ref in deletes if ref.id not in taken])


@st.composite
def populations(draw: st.DrawFn) -> Commit:
    """Every group, every peer, and some of the rest: a change to an empty account shows little."""
    everybody = [draw(peers(name)) for name in PEERS]
    some = draw(st.lists(policies() | routes(), max_size=4, unique_by=lambda entity: entity.id))
    return builders.commit(*map(builders.group, GROUPS), *everybody, *some)


resolved = st.fixed_dictionaries(
    {},
    optional={
        route: st.lists(st.sampled_from((*DOMAINS, "old.example")), unique=True, max_size=2).map(
            lambda names: tuple(ResolvedName(name, (ResolvedAddress("10.9.9.9", 1.0, 0.0),)) for name in names)
        )
        for route in ROUTES
    },
)

some_routes = st.lists(st.sampled_from((*ROUTES, "gone")), max_size=3, unique=True).map(tuple)

last_words = st.builds(
    LastWord,
    agent=st.booleans(),
    draining=st.booleans(),
    withdrawn=some_routes.map(lambda found: tuple(Withdrawn(route, "no link") for route in found)),
    holds=some_routes,
)

observed = st.builds(
    Observed,
    resolutions=resolved,
    last_words=st.dictionaries(st.sampled_from(PEERS), last_words, max_size=len(PEERS)),
    versions=st.dictionaries(st.sampled_from(PEERS), versions.filter(bool), max_size=len(PEERS)),
    unseen=st.frozensets(st.sampled_from(PEERS), max_size=len(PEERS)),
)


class Fold:
    """One account that takes commit after commit."""

    def __init__(self, *commits: Commit) -> None:
        self.intent = Intent()
        self.intent.apply(1, builders.commit(builders.account(), builders.group_all()))
        for commit in commits:
            self.apply(commit)
        self.state = self.intent.accounts[ACCOUNT]

    def apply(self, commit: Commit) -> list[Change]:
        return self.intent.apply(self.intent.sequence + 1, commit)
