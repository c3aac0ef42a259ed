"""The fixture of NetBird's route tests: five peers, six groups (reference control-plane §8.1)."""

from typing import Any

from msgspec.structs import replace

from services.management.core.commands.routes import RouteRequest, SavedRoute, create_route, update_route
from services.management.core.entities import Entity
from services.management.core.model.account import Account, AccountSettings
from services.management.core.model.route import Route
from services.management.core.state import AccountState
from tests.builders import account, context, group, intent, peer, route

GROUPS = {"rg1": "1", "rg2": "2", "rg3": "5", "rg4": "5", "ha1": "123", "ha2": "14"}
"""Group → numbers of its members."""

SERVED_BY_5 = (
    route("init-network", "10.10.10.0/24", peer_groups=("rg3", "rg4")),
    route("init-domains", domains=("example.com",), peer_groups=("rg3", "rg4")),
)
"""What the tests call init routes."""


def fixture(*more: Entity, owner: Account | None = None) -> AccountState:
    peers = [peer(f"peer{n}", *(name for name, members in GROUPS.items() if n in members)) for n in "12345"]
    return intent(*map(group, GROUPS), *peers, *more, account=owner).accounts["acc"]


def without_dns_resolution() -> Account:
    return replace(account(), settings=AccountSettings(routing_peer_dns_resolution_enabled=False))


def request(**fields: Any) -> RouteRequest:
    """The request that NetBird's tests start from. Setting domains leaves the network out, setting groups the peer."""
    plain: dict[str, Any] = {"network_id": "happy", "metric": 9999, "enabled": True, "groups": ("rg1",)}
    if "domains" not in fields:
        plain["network"] = "192.168.0.0/16"
    if "peer_groups" not in fields:
        plain["peer"] = "peer1"
    return RouteRequest(**{**plain, **fields})


def created(state: AccountState, **fields: Any) -> SavedRoute:
    return create_route(state, request(**fields), context()).result


def updated(state: AccountState, id: str, **fields: Any) -> Route:
    return update_route(state, id, request(**fields), context()).result.route
