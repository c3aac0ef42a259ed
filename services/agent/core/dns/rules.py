"""Which rules answer a name, and in which order: the longest domain first, then by kind.

Of one length the names of routes come first, then zones, then nameserver groups; for what nothing else answers the
nameserver groups without domains are asked, and last whom the host asked before there was an overlay.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from services.agent.core.dns.names import Labels, labels, text
from services.agent.core.dns.zones import OwnNames, PeerNames, ZoneNames
from services.agent.core.parsed import Peer, Route
from services.agent.core.routing.choices import Selection, selected
from services.agent.core.routing.hagroups import HaKey, offered
from shared.events.documents import DnsServer, NameserversDoc, SelfDoc, SettingsDoc, ZoneDoc
from shared.events.subjects import group_audience
from shared.net.domains import is_wildcard

Kind: TypeAlias = Literal["route", "zone", "nameservers", "host"]

PEERS_ZONE = "peers"
"""Id of the zone that the names of peers are in."""


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """Names of routes that this host uses: the routing peers answer. domain: as the route has it, wildcard included.

    keys: the HA groups that have it, sorted; the first one that somebody carries answers.
    """

    domain: str
    keys: tuple[HaKey, ...]


class Zoned(msgspec.Struct, frozen=True, kw_only=True):
    """Names of the account's own. final: what the zone does not have does not exist; else others are asked."""

    zone_id: str
    domain: str
    names: OwnNames
    final: bool


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Nameserver groups with the same domain, sorted by id, all asked at once. domain: "" for everything."""

    domain: str
    ids: tuple[str, ...]
    groups: tuple[tuple[DnsServer, ...], ...]


class HostServers(msgspec.Struct, frozen=True, kw_only=True):
    """Whom the host asked before there was an overlay."""

    servers: tuple[DnsServer, ...]


Rule: TypeAlias = Routed | Zoned | Served | HostServers


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules are made of. host: the host's own servers. search: its own search domains."""

    me: SelfDoc | None = None
    settings: SettingsDoc | None = None
    peers: Mapping[str, Peer] = {}
    nameservers: Mapping[str, NameserversDoc] = {}
    zones: Mapping[str, ZoneDoc] = {}
    used: tuple[HaKey, ...] = ()
    host: tuple[DnsServer, ...] = ()
    search: tuple[str, ...] = ()


class Rules:
    """managed: whether this host's names are answered here at all (SettingsDoc.unmanaged_dns).

    domains: what is answered here other than by the host's own servers, wildcards as the domain they are in; sorted.
    default: whether nameservers of the account answer for everything. search: the domains to try behind names that
    are no whole ones, of zones and groups first, then of the host.
    """

    def __init__(self, terms: Terms) -> None:
        self.managed = _is_managed(terms.me, terms.settings)
        self._exact: dict[Labels, Routed] = {}
        self._below: dict[Labels, Routed] = {}
        self._zones: dict[Labels, list[Zoned]] = {}
        self._served: dict[Labels, Served] = {}
        self._host = HostServers(servers=terms.host)
        if self.managed:
            self._take_routes(terms.used)
            self._take_zones(terms)
            self._take_nameservers(terms)
        owned = {*self._exact, *self._below, *self._zones, *self._served}
        self.domains = tuple(sorted(text(name) for name in owned if name))
        self.default = () in self._served
        self.search = tuple(dict.fromkeys((*(self._searched(terms) if self.managed else ()), *terms.search)))

    def of(self, name: Labels) -> Iterable[Rule]:
        """The rules that have the name, the first one answers; at least the host's own servers."""
        for start in range(len(name) + 1):
            suffix = name[start:]
            routed = self._below.get(suffix) if start else self._exact.get(suffix)
            if routed is not None:
                yield routed
            yield from self._zones.get(suffix, ())
            if suffix in self._served:
                yield self._served[suffix]
        yield self._host

    def _take_routes(self, used: Iterable[HaKey]) -> None:
        keys: dict[str, list[HaKey]] = {}
        for key in sorted(used):
            for domain in key[2]:
                keys.setdefault(domain, []).append(key)
        for domain, those in keys.items():
            wildcard = is_wildcard(domain)
            held = self._below if wildcard else self._exact
            held[labels(domain[2:] if wildcard else domain)] = Routed(domain=domain, keys=tuple(those))

    def _take_zones(self, terms: Terms) -> None:
        if terms.settings is not None and terms.me is not None and terms.settings.dns_domain:
            domain = terms.settings.dns_domain
            names = PeerNames(domain, terms.me, terms.peers)
            self._zones[labels(domain)] = [Zoned(zone_id=PEERS_ZONE, domain=domain, names=names, final=True)]
        for zone in terms.zones.values():
            there = self._zones.setdefault(labels(zone.domain), [])
            # a zone with the domain of the peers is asked first: what it does not have, that one may
            there.insert(0, Zoned(zone_id=zone.zone_id, domain=zone.domain, names=ZoneNames(zone), final=False))

    def _take_nameservers(self, terms: Terms) -> None:
        own = {terms.me.address_v4, terms.me.address_v6} if terms.me is not None else set()
        members: dict[str, list[NameserversDoc]] = {}
        for group in terms.nameservers.values():
            if group.nameservers and not any(server.address in own for server in group.nameservers):
                for domain in group.domains or ("",):
                    members.setdefault(domain, []).append(group)
        for domain, groups in members.items():
            groups.sort(key=lambda group: group.group_id)
            self._served[labels(domain)] = Served(
                domain=domain,
                ids=tuple(group.group_id for group in groups),
                groups=tuple(group.nameservers for group in groups),
            )

    def _searched(self, terms: Terms) -> Iterable[str]:
        if terms.settings is not None and terms.settings.dns_domain:
            yield terms.settings.dns_domain
        yield from (zone.domain for zone in terms.zones.values() if zone.search)
        for group in terms.nameservers.values():
            if group.search and group.group_id in {id for one in self._served.values() for id in one.ids}:
                yield from group.domains


def used_groups(
    me: SelfDoc | None,
    settings: SettingsDoc | None,
    routes: Iterable[Route],
    peers: Mapping[str, Peer],
    selection: Selection,
) -> tuple[HaKey, ...]:
    """The HA groups of domain routes whose names this host asks routing peers for.

    Without resolution by routing peers in the account the resolver alone finds addresses; names are answered as ever.
    """
    if me is None or settings is None or not settings.routing_peer_dns_resolution:
        return ()
    groups = offered(routes, me, peers)
    in_use = selected(selection, groups)
    return tuple(group.key for group in groups if group.domains and group.network_id in in_use)


def _is_managed(me: SelfDoc | None, settings: SettingsDoc | None) -> bool:
    if me is None or settings is None:
        return False
    return not any(group_audience(group) in me.audiences for group in settings.unmanaged_dns)
