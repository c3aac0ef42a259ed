"""Checks that several commands share. What a request refers to must exist, so that nothing dangles (decision R10)."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from services.management.errors import Invalid, Unknown

T = TypeVar("T")


def found(table: Mapping[str, T], id: str, what: str) -> T:
    """The entity that the request's path names; raises Unknown."""
    entity = table.get(id)
    if entity is None:
        raise Unknown(f"{what} {id} not found")
    return entity


def unique(ids: Iterable[str] | None) -> tuple[str, ...]:
    """Each once, in the order given; () for None."""
    return tuple(dict.fromkeys(ids or ()))


def existing_groups(state: AccountState, ids: Iterable[str], field: str) -> list[Group]:
    """The groups that a field of the body names; raises Invalid for an id that is empty or unknown."""
    return [_existing(state.groups, id, field, "group") for id in ids]


def distribution_groups(state: AccountState, ids: Iterable[str] | None, field: str) -> tuple[str, ...]:
    """The groups that something is distributed to, each once; raises Invalid, also for none."""
    groups = unique(ids)
    if not groups:
        raise Invalid(f"{field} must name at least one distribution group")
    existing_groups(state, groups, field)
    return groups


def existing_peers(state: AccountState, ids: Iterable[str], field: str) -> list[Peer]:
    """The peers that a field of the body names; raises Invalid for an id that is empty or unknown."""
    return [_existing(state.peers, id, field, "peer") for id in ids]


def _existing(table: Mapping[str, T], id: str, field: str, what: str) -> T:
    if not id:
        raise Invalid(f"{field}: a {what} id must not be empty")
    entity = table.get(id)
    if entity is None:
        raise Invalid(f"{field}: {what} {id} not found")
    return entity


def named(name: str, what: str) -> str:
    """`name` unless it is empty or blank; raises Invalid."""
    if not name.strip():
        raise Invalid(f"{what} name must not be empty")
    return name
