"""What refers to an entity. Nothing is deleted while there is anything (decision R10)."""

from services.management.core.entities import KINDS, Entity
from services.management.core.state import AccountState


def to(state: AccountState, named: Entity) -> list[str]:
    """Titles of the entities that name it, as "route office", kind by kind; members of a group do not."""
    return [
        entity.title
        for kind in KINDS
        if (ids_named_by := kind.references().get(type(named)))
        for entity in state.table(kind).values()
        if named.id in ids_named_by(entity)
    ]
