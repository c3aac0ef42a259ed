"""Groups: named sets of peers."""

from typing import Annotated

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, permitted
from services.management.api.wire import Id, Nothing, about, asked, example, given
from services.management.core.commands import groups as commands
from services.management.core.commands.checks import found
from services.management.core.model.group import Group
from services.management.core.model.policy import ResourceRef
from services.management.core.state import AccountState
from services.management.errors import Unknown


class GroupBody(msgspec.Struct, frozen=True, kw_only=True):
    """A PUT replaces name and members."""

    name: Annotated[str | None, about("Not empty, and no other group's.", "office")] = None
    peers: Annotated[tuple[str, ...] | None, about("Ids of the members.", ["d0fsqhs3r4mc73a1b2c0"])] = None
    resources: Annotated[tuple[ResourceRef, ...] | None, about("There are none yet.")] = None


class PeerMinimum(msgspec.Struct, frozen=True, kw_only=True):
    """A peer where it is only mentioned."""

    id: Id
    name: str


class GroupResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: Id
    name: str
    peers_count: int
    resources_count: int
    issued: str
    peers: list[PeerMinimum]
    resources: list[ResourceRef]


GROUP = example({"name": "gateways", "peers": ["d0fsqhs3r4mc73a1b2c0"]})


@get("/")
async def list_groups(
    call: NamedDependency[Call],
    name: Annotated[str | None, asked("Only the group with exactly this name; 404 if there is none.")] = None,
) -> Response[list[GroupResponse]]:
    """Every group of the account."""
    groups = [group for group in by_id(call.state.groups) if not name or group.name == name]
    if name and not groups:
        raise Unknown(f"group {name} not found")
    return call.answer([_shown(call.state, group) for group in groups])


@get("/{id:str}")
async def get_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[GroupResponse]:
    """One group."""
    return _one(call, found(call.state.groups, id, "group"))


@post("/", status_code=200)
async def create_group(call: NamedDependency[Call], data: Annotated[GroupBody, GROUP]) -> Response[GroupResponse]:
    """Create a group."""
    request = given(data, commands.GroupRequest)
    return _one(call, await call.commit(lambda state, context: commands.create_group(state, request, context)))


@put("/{id:str}", guards=[known(lambda state: state.groups, "group")])
async def update_group(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[GroupBody, GROUP]
) -> Response[GroupResponse]:
    """Replace a group's name and members."""
    request = given(data, commands.GroupRequest)
    return _one(call, await call.commit(lambda state, context: commands.update_group(state, id, request, context)))


@delete("/{id:str}", status_code=200)
async def delete_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a group that nothing refers to."""
    await call.commit(lambda state, context: commands.delete_group(state, id, context))
    return call.answer(Nothing())


def _one(call: Call, group: Group) -> Response[GroupResponse]:
    return call.answer(_shown(call.state, call.state.groups.get(group.id, group)))


def _shown(state: AccountState, group: Group) -> GroupResponse:
    members = [PeerMinimum(id=id, name=state.peers[id].name) for id in sorted(state.members(group.id))]
    return GroupResponse(
        id=group.id,
        name=group.name,
        peers_count=len(members),
        resources_count=0,
        issued=group.issued,
        peers=members,
        resources=[],
    )


router = Router(
    "/groups",
    route_handlers=[list_groups, get_group, create_group, update_group, delete_group],
    guards=[permitted("groups")],
    tags=["Groups"],
)
