"""The kinds of entities that an account is made of. A new kind is a struct in core/model and its place in `Entity`."""

from typing import Annotated, TypeAlias, get_args

import msgspec

from services.management.core.model.account import Account
from services.management.core.model.dnssettings import DnsSettings
from services.management.core.model.entity import EntityBase
from services.management.core.model.group import Group
from services.management.core.model.nameservers import NameserverGroup
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy
from services.management.core.model.route import Route
from services.management.core.model.setupkey import SetupKey
from services.management.core.model.user import AccessToken, User
from services.management.core.model.zone import Zone, ZoneRecord

Entity: TypeAlias = (
    Account
    | Group
    | Peer
    | Route
    | Policy
    | NameserverGroup
    | DnsSettings
    | Zone
    | ZoneRecord
    | SetupKey
    | User
    | AccessToken
)

KINDS: dict[type[EntityBase], str] = {struct: str(struct.__struct_config__.tag) for struct in get_args(Entity)}
"""Struct → its kind in the log and in the read model."""


class Ref(msgspec.Struct, frozen=True, order=True):
    """Names one entity of an account. kind: one of KINDS."""

    kind: Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(KINDS.values())})]
    id: str


def ref(entity: EntityBase) -> Ref:
    return Ref(KINDS[type(entity)], entity.id)
