"""A named set of peers."""

from typing import Literal

from services.management.core.model.entity import EntityBase


class Group(EntityBase, frozen=True, kw_only=True, gc=False, tag="group"):
    """The members are the peers that list the group; every peer is a member of All."""

    name: str
    issued: Literal["api", "jwt", "integration"] = "api"

    @property
    def title(self) -> str:
        return f"group {self.name}"
