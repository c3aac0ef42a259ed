"""Change the settings of the account."""

from typing import Annotated, Any

from msgspec.structs import replace

from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Integer, Request, about
from services.management.core.model.account import Account
from services.management.core.model.commit import Activity
from services.management.core.model.upstreams import Upstream, check_number, upstream_of
from services.management.core.model.zone import check_beside_peers
from services.management.core.state import AccountState
from services.management.errors import InUse, Invalid, names
from shared.net.domains import MAX_BYTES, BadDomain, is_wildcard, parse_name

MAX_DNS_DOMAIN_BYTES = MAX_BYTES - 64
"""Longest domain of the peers: the longest label and a dot stand before it."""

_FIXED = about("Cannot be changed yet: as it is, or absent.")


class UpstreamRequest(Request, frozen=True, kw_only=True):
    """One DNS server that the resolver asks."""

    ip: Annotated[str, about("Its address.", "10.0.0.53", needed=True)] = ""
    ns_type: Annotated[str, about("udp, or tls for DNS over TLS.", "tls", needed=True)] = ""
    port: Annotated[Integer, about("1 to 65535.", 853, needed=True)] = 0
    name: Annotated[str, about("With tls: what its certificate is for, else its address.", "dns.example.com")] = ""


class AccountSettingsRequest(Request, frozen=True, kw_only=True):
    """What is absent stays as it is."""

    peer_login_expiration_enabled: Annotated[bool | None, _FIXED] = None
    peer_login_expiration: Annotated[Integer | None, _FIXED] = None
    peer_inactivity_expiration_enabled: Annotated[bool | None, _FIXED] = None
    peer_inactivity_expiration: Annotated[Integer | None, _FIXED] = None
    groups_propagation_enabled: Annotated[bool | None, _FIXED] = None
    regular_users_view_blocked: Annotated[bool | None, _FIXED] = None
    routing_peer_dns_resolution_enabled: Annotated[
        bool | None, about("Whether routing peers resolve the names of routes, which wildcards need.", True)
    ] = None
    resolver_nameservers: Annotated[
        tuple[UpstreamRequest, ...] | None,
        about(
            "At most 3: whom the resolver asks for the names of routes, in this order; none for its own DNS servers."
        ),
    ] = None
    dns_domain: Annotated[str | None, about("What the names of the peers end with.", "whimbrel.internal")] = None
    network_range: Annotated[str | None, _FIXED] = None
    network_range_v6: Annotated[str | None, _FIXED] = None


class AccountRequest(Request, frozen=True, kw_only=True):
    """The body of PUT /api/accounts/{id}."""

    settings: Annotated[AccountSettingsRequest | None, about("The settings.", needed=True)] = None


def update_account(state: AccountState, request: AccountRequest, context: Context) -> Decision[Account]:
    """Raises Invalid, or InUse when something needs what would be switched off."""
    old, asked = state.account, request.settings
    if asked is None:
        raise Invalid("settings must be given")
    _check_fixed(old, asked)
    dns_domain = old.dns_domain if asked.dns_domain is None else _dns_domain(state, asked.dns_domain)
    resolution = asked.routing_peer_dns_resolution_enabled
    if resolution is None:
        resolution = old.settings.routing_peer_dns_resolution_enabled
    elif not resolution:
        _check_no_wildcards(state)
    settings = replace(
        old.settings,
        routing_peer_dns_resolution_enabled=resolution,
        resolver_nameservers=_upstreams(old, asked.resolver_nameservers),
    )
    new = replace(old, dns_domain=dns_domain, settings=settings)
    if new == old:
        return unchanged(old)
    return changed(context, old.id, new, _activities(old, new), upserts=[new])


def _check_fixed(account: Account, asked: AccountSettingsRequest) -> None:
    settings = account.settings
    fixed: dict[str, Any] = {
        "peer_login_expiration_enabled": settings.peer_login_expiration_enabled,
        "peer_login_expiration": settings.peer_login_expiration_s,
        "peer_inactivity_expiration_enabled": settings.peer_inactivity_expiration_enabled,
        "peer_inactivity_expiration": settings.peer_inactivity_expiration_s,
        "groups_propagation_enabled": settings.groups_propagation_enabled,
        "regular_users_view_blocked": settings.regular_users_view_blocked,
        "network_range": account.network_v4,
        "network_range_v6": account.network_v6,
    }
    for field, value in fixed.items():
        if getattr(asked, field) not in (None, value):
            raise Invalid(f"{field} cannot be changed yet: leave it as it is, or out")


def _dns_domain(state: AccountState, text: str) -> str:
    try:
        domain = parse_name(text)
    except BadDomain as problem:
        raise Invalid(f"dns_domain: {problem}") from None
    if len(domain) > MAX_DNS_DOMAIN_BYTES:
        raise Invalid(f"dns_domain: it has {len(domain)} bytes, {MAX_DNS_DOMAIN_BYTES} are allowed")
    for zone in state.zones.values():
        check_beside_peers(zone.domain, domain, "dns_domain")
    return domain


def _upstreams(account: Account, asked: tuple[UpstreamRequest, ...] | None) -> tuple[Upstream, ...]:
    if asked is None:
        return account.settings.resolver_nameservers
    check_number(len(asked))
    return tuple(dict.fromkeys(upstream_of(one.ip, one.ns_type, one.port, one.name) for one in asked))


def _check_no_wildcards(state: AccountState) -> None:
    """A route that the setting forbids could not be changed any more, not even to switch it off (decision R7)."""
    wild = [route.title for route in state.routes.values() if any(map(is_wildcard, route.domains))]
    if wild:
        raise InUse(
            f"routing_peer_dns_resolution_enabled: wildcards of {names(wild)} need it: change or delete them first"
        )


def _activities(old: Account, new: Account) -> list[Activity]:
    activities = []
    resolution = new.settings.routing_peer_dns_resolution_enabled
    if resolution != old.settings.routing_peer_dns_resolution_enabled:
        what = "enable" if resolution else "disable"
        code = f"account.setting.routing.peer.dns.resolution.{what}"
        activities.append(Activity(code=code, target_id=new.id))
    nameservers = new.settings.resolver_nameservers
    if nameservers != old.settings.resolver_nameservers:
        shown: dict[str, str | int | bool | list[str]] = {"nameservers": [one.ip for one in nameservers]}
        activities.append(Activity(code="account.setting.resolver.nameservers.update", target_id=new.id, meta=shown))
    if new.dns_domain != old.dns_domain:
        meta: dict[str, str | int | bool | list[str]] = {
            "old_dns_domain": old.dns_domain,
            "new_dns_domain": new.dns_domain,
        }
        activities.append(Activity(code="account.dns.domain.update", target_id=new.id, meta=meta))
    return activities
