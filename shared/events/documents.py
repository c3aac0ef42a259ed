"""FEED: documents for audiences. Written by the projector, read by agents and by the resolver.

One FeedMessage per subject `feed.<account>.<audience>.<kind>.<id>`, last value only. All times are unix seconds.
Addresses and prefixes are text in canonical form, groups and peers are ids.
"""

from typing import Literal, TypeAlias, get_args

import msgspec

Action: TypeAlias = Literal["accept", "drop"]
Protocol: TypeAlias = Literal["all", "tcp", "udp", "icmp", "netbird-ssh"]
ProbeKind: TypeAlias = Literal["icmp", "tcp"]
RecordType: TypeAlias = Literal["A", "AAAA", "CNAME"]

TOMBSTONE_TTL_S = 3600.0
"""How long a deletion stays in FEED. A reader that was away for longer takes a whole snapshot instead of resuming."""

SETTINGS_ID = "account"
"""The id of the only settings document of an account."""


class SelfDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="self.v1"):
    """What a peer is: seen by that peer alone. Key: the peer's id.

    audiences: every audience the peer may read, its own included, sorted. When they differ from the ones the
    connection was admitted with, the agent reconnects to get the new rights.
    address_v4, address_v6: overlay address without prefix length; v6 is "" when the peer has none. labels: see PeerDoc.
    """

    peer_id: str
    name: str
    fqdn: str
    wireguard_key: str
    address_v4: str
    address_v6: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...]
    labels: tuple[str, ...] = ()


class SettingsDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="settings.v1"):
    """What holds for every peer of the account: seen by group All. Key: SETTINGS_ID.

    dns_domain: stands behind the labels of every peer. unmanaged_dns: group ids; members of any of them keep their DNS
    as it is, whatever other documents say.
    """

    overlay_v4: str
    overlay_v6: str
    dns_domain: str
    forwarder_port: int
    routing_peer_dns_resolution: bool
    unmanaged_dns: tuple[str, ...] = ()


class PeerDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="peer.v1"):
    """A peer that others may reach: seen by the groups a policy connects it with. Key: the peer's id.

    groups: those of its groups that a policy or a route of the account names, sorted. labels: its own DNS label, then
    the extra ones, which other peers may have as well: with the settings' dns_domain behind them they stand for its
    addresses, so that names with a new domain wait for no other document. fqdn: the first of these names, to be shown.
    """

    peer_id: str
    name: str
    fqdn: str
    wireguard_key: str
    address_v4: str
    address_v6: str
    groups: tuple[str, ...]
    version: str
    labels: tuple[str, ...] = ()


class PortRange(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Ports from start to end, both included; a single port has start == end."""

    start: int
    end: int


class RuleDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="rule.v1"):
    """One enabled policy rule: seen by both of its sides. Key: the rule's id.

    sources, destinations: group ids. source_peers, destination_peers: peers named directly.
    ports: empty means all ports.
    """

    rule_id: str
    policy_id: str
    action: Action
    protocol: Protocol
    bidirectional: bool
    ports: tuple[PortRange, ...]
    sources: tuple[str, ...]
    source_peers: tuple[str, ...]
    destinations: tuple[str, ...]
    destination_peers: tuple[str, ...]


class Permit(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Who may send what through a route. A source must also be in the route's distribution groups.

    rule_id: the policy rule it came from, "" for a route without access control groups (decision A2).
    sources, source_peers: groups and peers of the rule's source side; with rule_id "" the distribution groups.
    """

    rule_id: str
    action: Action
    protocol: Protocol
    ports: tuple[PortRange, ...]
    sources: tuple[str, ...]
    source_peers: tuple[str, ...]


class Probe(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What each routing peer of a route asks on its own leg, so that it notices what netlink cannot tell (G3).

    address: canonical, inside the route's network. port: of "tcp", 0 for "icmp".
    """

    kind: ProbeKind
    address: str
    port: int = 0
    interval_ms: int = 200


class RouteDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="route.v1"):
    """One enabled route: seen by its distribution groups and its routing peers. Key: the route's id.

    network: a prefix, "" for a domain route. domains: IDNA ASCII, () for a prefix route.
    routing_peers: peer ids, sorted. permits: None in the copy for distribution groups; the routing peers'
    copy holds all of them, () when nothing is permitted (decision A3). A reader that sees both copies
    is a routing peer and takes the one with permits.
    return_address: address in the LAN that the routing peer in charge takes over, "" for none; without masquerading
    the LAN sends there what is for the overlay.
    alone: no other enabled route is of its HA set; said to its routing peers, who are not told of others.
    """

    route_id: str
    network_id: str
    network: str
    domains: tuple[str, ...]
    metric: int
    masquerade: bool
    keep_route: bool
    skip_auto_apply: bool
    routing_peers: tuple[str, ...]
    distribution: tuple[str, ...]
    permits: tuple[Permit, ...] | None
    probe: Probe | None = None
    return_address: str = ""
    alone: bool = False


class ResolvedAddress(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An address a name resolved to; expires_at is 0.0 for one that does not expire."""

    address: str
    last_seen: float
    expires_at: float


ROUTING_PEER = "peer:"
"""Begins the source of a name that a routing peer resolved."""


class ResolvedName(msgspec.Struct, frozen=True, array_like=True):
    """source: who answered last when this was written: ROUTING_PEER with its id, or a DNS server as in settings; ""
    when nobody knows."""

    name: str
    addresses: tuple[ResolvedAddress, ...]
    source: str = ""


class ResolutionDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="resolution.v1"):
    """The addresses of a domain route's names: seen by whoever sees the route. Key: the route's id."""

    route_id: str
    names: tuple[ResolvedName, ...]


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A routing peer does not carry a route now. reason: one line for people."""

    route_id: str
    reason: str


class PresenceDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="presence.v1"):
    """How a routing peer stands: seen by itself and by the distribution groups of the routes it serves. Key: its id.

    Peers that route nothing have none. Each audience is told of the routes that are distributed to it and of no others,
    the peer itself of all: a reader puts the copies together.

    agent: whether its agent is on the bus; a hint, since its kernel may go on without. draining: it, or people, want
    its clients to leave. withdrawn: by route id; what it does not carry by its own word. holds: ids of the routes
    whose return address it holds. The last three are what the agent said last, whether it is there or not.
    """

    peer_id: str
    agent: bool
    draining: bool = False
    withdrawn: tuple[Withdrawn, ...] = ()
    holds: tuple[str, ...] = ()


class UpstreamServer(msgspec.Struct, frozen=True, array_like=True):
    """A DNS server that the resolver asks. tls: over TLS (RFC 7858), where name is what its certificate is for, "" for
    the address."""

    address: str
    port: int
    tls: bool = False
    name: str = ""


class ResolvingDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="resolving.v1"):
    """Who is asked for the names of the account's routes: seen by the resolver alone. Key: SETTINGS_ID.

    An account without servers of its own, whose routing peers are asked first, has no such document. servers: in the
    order to ask them. routing_peers: whether those of a route are asked before any server.
    """

    servers: tuple[UpstreamServer, ...] = ()
    routing_peers: bool = True


class DnsServer(msgspec.Struct, frozen=True, array_like=True):
    """Asked by UDP, and by TCP where an answer is cut off."""

    address: str
    port: int


class NameserversDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="nameservers.v1"):
    """Who answers for some names: seen by the groups it is distributed to. Key: the nameserver group's id.

    domains: names that they answer for, each with everything below it, IDNA ASCII; () for whatever nothing else answers
    for. search: the domains are also tried behind names that are no whole ones. A host whose own address is among the
    nameservers leaves the group out.
    """

    group_id: str
    nameservers: tuple[DnsServer, ...]
    domains: tuple[str, ...]
    search: bool = False


class DnsRecord(msgspec.Struct, frozen=True, array_like=True, order=True):
    """name: whole, IDNA ASCII. content: an address, or the name that a CNAME stands for."""

    name: str
    type: RecordType
    content: str
    ttl_s: int


class ZoneDoc(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="zone.v1"):
    """Names of the account's own: seen by the groups it is distributed to. Key: the zone's id.

    domain: IDNA ASCII. records: sorted, at least one. Of two zones the longer domain answers; for names that it has not
    others are asked. search: the domain is also tried behind names that are no whole ones.
    """

    zone_id: str
    domain: str
    records: tuple[DnsRecord, ...]
    search: bool = False


class Tombstone(msgspec.Struct, frozen=True, array_like=True, tag="tombstone.v1"):
    """The document is gone. Stays for TOMBSTONE_TTL_S."""


Document: TypeAlias = (
    SelfDoc
    | SettingsDoc
    | PeerDoc
    | RuleDoc
    | RouteDoc
    | ResolutionDoc
    | PresenceDoc
    | NameserversDoc
    | ZoneDoc
    | ResolvingDoc
)

KINDS: dict[type[Document], str] = {
    struct: str(struct.__struct_config__.tag).partition(".")[0] for struct in get_args(Document)
}
"""The kind token of each document's subject: its tag without the version."""


class FeedMessage(msgspec.Struct, frozen=True, array_like=True):
    """What travels on a FEED subject.

    revision: LOG sequence the document stands for; an older one never replaces a newer one.
    """

    revision: int
    document: Document | Tombstone


class Beacon(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="beacon.v1"):
    """What FEED holds for an audience, so that a reader notices what it missed: not stored, sent a few times.

    After the message with sequence `after` as many as `count` were written to the audience, the last of them with
    sequence `newest`. With count 0 both are the same.
    """

    after: int
    newest: int
    count: int
