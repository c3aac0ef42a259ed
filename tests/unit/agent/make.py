"""Documents and local knowledge for tests of the agent. Whatever a test does not speak of has a plain default; ids are
the names.

there = documents(me("gateway", "routers"), [peer("alice", "office")], routes=[route("lan", serves="gateway")])
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.reconcile.desired import Local
from shared.events.documents import (
    DnsRecord,
    DnsServer,
    NameserversDoc,
    PeerDoc,
    Permit,
    PortRange,
    ResolutionDoc,
    ResolvedAddress,
    ResolvedName,
    RouteDoc,
    RuleDoc,
    SelfDoc,
    SettingsDoc,
    ZoneDoc,
)
from shared.events.subjects import group_audience, peer_audience

ALL = "all"
V4, V6 = "100.64.0.0/16", "fd00:64::/64"


def key(name: str) -> str:
    """Looks like a public key, always the same one for a name."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def me(name: str = "me", *groups: str, v4: str = "100.64.0.1", v6: str = "fd00:64::1") -> SelfDoc:
    own = tuple(sorted({ALL, *groups}))
    return SelfDoc(
        peer_id=name,
        name=name,
        fqdn=f"{name}.whimbrel.test",
        wireguard_key=key(name),
        address_v4=v4,
        address_v6=v6,
        groups=own,
        audiences=tuple(sorted((*map(group_audience, own), peer_audience(name)))),
    )


def settings(**fields: Any) -> SettingsDoc:
    plain = {
        "overlay_v4": V4,
        "overlay_v6": V6,
        "dns_domain": "whimbrel.test",
        "forwarder_port": 22054,
        "routing_peer_dns_resolution": True,
    }
    return SettingsDoc(**{**plain, **fields})


def peer(name: str, *groups: str, number: int = 0, v4: str = "", v6: str | None = None, **fields: Any) -> PeerDoc:
    """number: last part of its overlay addresses, made from the name when it is 0. v6: "" for none."""
    number = number or 2 + hashlib.sha256(name.encode()).digest()[0] % 250
    plain = {
        "peer_id": name,
        "name": name,
        "fqdn": f"{name}.whimbrel.test",
        "wireguard_key": key(name),
        "address_v4": v4 or f"100.64.0.{number}",
        "address_v6": f"fd00:64::{number:x}" if v6 is None else v6,
        "groups": tuple(sorted({ALL, *groups})),
        "version": "1.0.0",
    }
    return PeerDoc(**{**plain, **fields})


def nameservers(name: str, *domains: str, **fields: Any) -> NameserversDoc:
    """One nameserver for the domains, or for everything."""
    plain: dict[str, Any] = {"group_id": name, "nameservers": (DnsServer("10.1.0.53", 53),), "domains": domains}
    return NameserversDoc(**{**plain, **fields})


def zone(name: str, *records: DnsRecord, **fields: Any) -> ZoneDoc:
    plain: dict[str, Any] = {"zone_id": name, "domain": f"{name}.example", "records": records}
    return ZoneDoc(**{**plain, **fields})


def route(name: str, network: str = "10.1.0.0/16", *, by: str | Iterable[str] = "gw", **fields: Any) -> RouteDoc:
    """by: its routing peers. Distributed to everyone, and without permits: the copy for those who use it."""
    plain = {
        "route_id": name,
        "network_id": name,
        "network": network,
        "domains": (),
        "metric": 9999,
        "masquerade": True,
        "keep_route": False,
        "skip_auto_apply": False,
        "routing_peers": (by,) if isinstance(by, str) else tuple(sorted(by)),
        "distribution": (ALL,),
        "permits": None,
    }
    if fields.get("domains"):
        plain["network"] = ""
    return RouteDoc(**{**plain, **fields})


def served(
    name: str, network: str = "10.1.0.0/16", *permits: Permit, by: str | Iterable[str] = "me", **fields: Any
) -> RouteDoc:
    """The copy of a route for its routing peer. No permits given: that of a route without access control groups."""
    plain: dict[str, Any] = {"permits": permits or (permit("", *fields.get("distribution", (ALL,))),)}
    return route(name, network, by=by, **{**plain, **fields})


def permit(rule: str, *sources: str, **fields: Any) -> Permit:
    plain = {"rule_id": rule, "action": "accept", "protocol": "all", "ports": (), "source_peers": ()}
    return Permit(**{**plain, "sources": sources, **fields})


def rule(name: str, sources: Iterable[str] = (ALL,), destinations: Iterable[str] = (ALL,), **fields: Any) -> RuleDoc:
    plain = {
        "rule_id": name,
        "policy_id": name,
        "action": "accept",
        "protocol": "all",
        "bidirectional": False,
        "ports": (),
        "sources": tuple(sources),
        "source_peers": (),
        "destinations": tuple(destinations),
        "destination_peers": (),
    }
    return RuleDoc(**{**plain, **fields})


def ports(*numbers: int | tuple[int, int]) -> tuple[PortRange, ...]:
    return tuple(PortRange(*one) if isinstance(one, tuple) else PortRange(one, one) for one in numbers)


def resolution(route_id: str, **names: Iterable[str]) -> ResolutionDoc:
    """names: with "_" for "."; name → addresses."""
    return ResolutionDoc(
        route_id=route_id,
        names=tuple(
            ResolvedName(name.replace("_", "."), tuple(ResolvedAddress(text, 1.0, 0.0) for text in addresses))
            for name, addresses in names.items()
        ),
    )


def documents(
    self_doc: SelfDoc | None = None,
    peers: Iterable[PeerDoc] = (),
    *,
    rules: Iterable[RuleDoc] = (),
    routes: Iterable[RouteDoc] = (),
    resolutions: Iterable[ResolutionDoc] = (),
    settings_doc: SettingsDoc | None = None,
    revision: int = 1,
) -> Documents:
    return Documents(
        revision=revision,
        self_doc=self_doc or me(),
        settings=settings_doc or settings(),
        peers={one.peer_id: parsed.peer(one) for one in sorted(peers, key=lambda one: one.peer_id)},
        rules={one.rule_id: one for one in sorted(rules, key=lambda one: one.rule_id)},
        routes={one.route_id: parsed.route(one) for one in sorted(routes, key=lambda one: one.route_id)},
        resolutions={one.route_id: parsed.resolution(one) for one in resolutions},
    )


def local(connected: Iterable[str] = (), **fields: Any) -> Local:
    plain = {"public_key": key("me"), "listen_port": 51820, "connected": frozenset(connected)}
    return Local(**{**plain, **fields})
