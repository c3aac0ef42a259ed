"""What several resources have in common on the wire, as NetBird's clients know it (reference control-plane §6)."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar.openapi.spec import Example
from litestar.params import BodyKwarg, QueryParameter

from services.management.core.model.group import Group
from services.management.core.state import AccountState
from services.management.core.warnings import Warned

Id: TypeAlias = Annotated[str, msgspec.Meta(description="Made by the server.", examples=["d0fsqhs3r4mc73a1b2c0"])]

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which NetBird shows for what has not happened."""


def asked(text: str) -> QueryParameter:
    """What the OpenAPI document says of a query parameter."""
    return QueryParameter(description=text)


def example(value: dict[str, Any]) -> BodyKwarg:
    """A whole body for the OpenAPI document."""
    return BodyKwarg(examples=[Example(value=value)])


class Nothing(msgspec.Struct, frozen=True):
    """The answer to a deletion: {}."""


class GroupMinimum(msgspec.Struct, frozen=True, kw_only=True):
    """A group where it is only mentioned."""

    id: Id
    name: str
    peers_count: int
    resources_count: int
    issued: str


class WarningResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What is allowed but perhaps not meant. code: what it is about. message: one line for a person."""

    code: Annotated[str, msgspec.Meta(description="Does not change.", examples=["open-route"])]
    message: str


def shown_warnings(told: Iterable[Warned]) -> list[WarningResponse]:
    return [WarningResponse(code=warning.code, message=warning.message) for warning in told]


def without(response: msgspec.Struct, field: str) -> tuple[bytes, bytes]:
    """The JSON of a response whose list `field` is empty, up to that list and from behind it.

    The field is not found in a text: there a backslash is before each quote.
    """
    head, name, tail = msgspec.json.encode(response).partition(b'"%b":[]' % field.encode())
    return head + name[:-2], tail


def moment(unix_s: float) -> datetime:
    """The time as RFC 3339 wants it; NEVER for 0.0."""
    return datetime.fromtimestamp(unix_s, UTC) if unix_s else NEVER


def group_minimum(state: AccountState, group: Group) -> GroupMinimum:
    return GroupMinimum(
        id=group.id,
        name=group.name,
        peers_count=state.member_count(group.id),
        resources_count=0,
        issued=group.issued,
    )


def groups_minimum(state: AccountState, ids: Iterable[str]) -> list[GroupMinimum]:
    """The groups that exist, in the order of `ids`."""
    return [group_minimum(state, state.groups[id]) for id in ids if id in state.groups]
