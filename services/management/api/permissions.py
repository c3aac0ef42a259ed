"""Which role may do what (reference control-plane §1.9)."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from services.management.core.model.user import Role, User

Module: TypeAlias = Literal["routes", "groups", "policies", "peers", "setup_keys", "events", "users", "accounts"]
"""As NetBird calls them in the permissions of a user."""

NOT_SERVED = ("networks", "dns", "nameservers", "settings", "pats")
"""NetBird's other modules: a dashboard looks each up and takes a missing one badly. There is nothing in them to do."""

_WRITES: Mapping[Role, frozenset[Module]] = {
    "owner": frozenset({"routes", "groups", "policies", "peers", "setup_keys", "users", "accounts"}),
    "admin": frozenset({"routes", "groups", "policies", "peers", "setup_keys", "users", "accounts"}),
    "network_admin": frozenset({"routes", "groups", "policies"}),
}
_READS_ALL: frozenset[Role] = frozenset({"owner", "admin", "network_admin", "auditor"})


def allowed(user: User, module: Module, *, write: bool) -> bool:
    """Whether the user may read or write the module. Service users may read everything whatever their role."""
    if write:
        return module in _WRITES.get(user.role, ())
    return user.is_service_user or user.role in _READS_ALL
