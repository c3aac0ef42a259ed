"""What the API consists of, and which role may do what (reference control-plane §1.9)."""

from collections.abc import Mapping

import msgspec

from services.management.core.model.user import Role, User

_READS_ALL: frozenset[Role] = frozenset({"owner", "admin", "network_admin", "auditor"})
_ADMINS: frozenset[Role] = frozenset({"owner", "admin"})
_NETWORK_ADMINS: frozenset[Role] = frozenset({"owner", "admin", "network_admin"})
_NOBODY: frozenset[Role] = frozenset()


class Module(msgspec.Struct, frozen=True):
    """title, about: in the OpenAPI document. writers: who may change it; every role in _READS_ALL may read it."""

    title: str
    about: str
    writers: frozenset[Role]


MODULES: Mapping[str, Module] = {
    "routes": Module("Routes", "Networks behind routing peers.", _NETWORK_ADMINS),
    "groups": Module("Groups", "Named sets of peers.", _NETWORK_ADMINS),
    "policies": Module("Policies", "Who may talk to whom.", _NETWORK_ADMINS),
    "nameservers": Module("Nameservers", "Which nameservers answer the questions of whom.", _NETWORK_ADMINS),
    "dns": Module("DNS", "Zones with names of your own, and who configures DNS without us.", _NETWORK_ADMINS),
    "peers": Module("Peers", "Hosts with an agent.", _ADMINS),
    "setup_keys": Module("Setup keys", "Keys that let hosts enrol.", _ADMINS),
    "events": Module("Events", "The audit trail.", _NOBODY),
    "users": Module("Users", "People and programs that use the API.", _ADMINS),
    "accounts": Module("Accounts", "The overlay network.", _ADMINS),
    "settings": Module("Settings", "Settings of the account.", _ADMINS),
}
"""By the name that NetBird has for it in the permissions of a user."""

NOT_SERVED = ("networks", "pats")
"""NetBird's other modules: a dashboard looks each up and takes a missing one badly. There is nothing in them to do."""


def allowed(user: User, module: str, *, write: bool) -> bool:
    """Whether the user may read or write the module. Service users may read everything whatever their role."""
    if write:
        return user.role in MODULES[module].writers
    return user.is_service_user or user.role in _READS_ALL
