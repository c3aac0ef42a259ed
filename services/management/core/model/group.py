"""A named set of peers."""

from typing import Literal

import msgspec


class Group(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="group"):
    """The members are the peers that list the group; every peer is a member of All."""

    id: str
    name: str
    issued: Literal["api", "jwt", "integration"] = "api"
