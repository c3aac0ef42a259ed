"""LOG: one commit, one message on `log.<account>`."""

import msgspec

from services.management.core.entities import KINDS, Entity, Ref


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who did it: a user's id, "sys" for the system itself, or a setup key's id for an enrolment."""

    id: str
    name: str = ""
    email: str = ""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the audit trail. code: NetBird's activity code such as "route.add" (reference control-plane §7)."""

    code: str
    target_id: str
    meta: dict[str, str | int | bool | list[str]] = {}


class Commit(msgspec.Struct, frozen=True, kw_only=True, tag="commit.v1"):
    """One accepted change of one account. Producer: management. Consumers: management's replicas. Key: account.

    at: unix seconds. activities: what it means to people, at least one. upserts replace whole entities; deletes
    remove them; an entity is in one of the two. Deleting a group takes its members out of it.
    """

    account: str
    at: float
    actor: Actor
    activities: tuple[Activity, ...]
    upserts: tuple[Entity, ...] = ()
    deletes: tuple[Ref, ...] = ()

    def __post_init__(self) -> None:
        unknown = {ref.kind for ref in self.deletes}.difference(KINDS.values())
        if unknown:
            raise ValueError(f"there are no entities of kind {min(unknown)}")
