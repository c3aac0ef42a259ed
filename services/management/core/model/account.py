"""An account: one overlay network and its settings."""

import msgspec

from services.management.core.model.entity import EntityBase
from services.management.core.model.upstreams import Upstream

ALL_GROUP_NAME = "All"


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Defaults are those of a new NetBird account (reference control-plane §1.11).

    resolver_nameservers: whom the resolver asks for the names of routes, in this order; () for its own DNS servers.
    """

    peer_login_expiration_enabled: bool = True
    peer_login_expiration_s: int = 86_400
    peer_inactivity_expiration_enabled: bool = False
    peer_inactivity_expiration_s: int = 600
    groups_propagation_enabled: bool = True
    regular_users_view_blocked: bool = True
    routing_peer_dns_resolution_enabled: bool = True
    resolver_nameservers: tuple[Upstream, ...] = ()


class Account(EntityBase, frozen=True, kw_only=True, gc=False, tag="account"):
    """id: xid. network_v4: the overlay, a /16 of 100.64.0.0/10. network_v6: a random ULA /64.

    all_group: id of the group All, to which every peer belongs without listing it.
    """

    network_v4: str
    network_v6: str
    dns_domain: str
    all_group: str
    created_at: float
    settings: AccountSettings = AccountSettings()
