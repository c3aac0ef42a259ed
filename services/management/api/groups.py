"""Groups: named sets of peers."""

from collections.abc import Iterable, Sequence
from operator import is_
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, known, resource
from services.management.api.kept import Slices
from services.management.api.view import Newest, View, steps
from services.management.api.wire import Id, Nothing, asked, example, without
from services.management.core.commands import groups as commands
from services.management.core.commands.checks import found
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.core.model.policy import ResourceRef
from services.management.core.state import AccountState
from services.management.errors import Unknown


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
    slices = Slices()
    view = await call.kept(Newest).view(call.state, slices)
    wanted = [group for group in view.groups.values() if not name or group.name == name]
    if name and not wanted:
        raise Unknown(f"group {name} not found")
    return call.listing(view.revision, await call.kept(Listed).entries(view, wanted, slices))


@get("/{id:str}")
async def get_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[GroupResponse]:
    """One group."""
    return _one(call, found(call.state.groups, id, "group"))


@post("/", status_code=200)
async def create_group(
    call: NamedDependency[Call], data: Annotated[commands.GroupRequest, GROUP]
) -> Response[GroupResponse]:
    """Create a group."""
    return _one(call, await call.commit(lambda state, context: commands.create_group(state, data, context)))


@put("/{id:str}", guards=[known(lambda state: state.groups, "group")])
async def update_group(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.GroupRequest, GROUP]
) -> Response[GroupResponse]:
    """Replace a group's name and members."""
    return _one(call, await call.commit(lambda state, context: commands.update_group(state, id, data, context)))


@delete("/{id:str}", status_code=200)
async def delete_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a group that nothing refers to."""
    await call.commit(lambda state, context: commands.delete_group(state, id, context))
    return call.answer(Nothing())


def _one(call: Call, group: Group) -> Response[GroupResponse]:
    return call.answer(_shown(call.state, call.state.groups.get(group.id, group)))


def _shown(state: AccountState, group: Group) -> GroupResponse:
    members = [_mentioned(state.peers[id]) for id in sorted(state.members(group.id))]
    return _response(group, len(members), members)


def _mentioned(peer: Peer) -> PeerMinimum:
    return PeerMinimum(id=peer.id, name=peer.name)


def _response(group: Group, count: int, members: list[PeerMinimum]) -> GroupResponse:
    return GroupResponse(
        id=group.id,
        name=group.name,
        peers_count=count,
        resources_count=0,
        issued=group.issued,
        peers=members,
        resources=[],
    )


class _Entry(msgspec.Struct, frozen=True):
    """group and members: what the entry was made of."""

    encoded: bytes
    group: Group
    members: Sequence[Peer]


class Listed:
    """The entries of one account's groups, encoded when the group or a member is another than at the last list."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    async def entries(self, view: View, wanted: Iterable[Group], slices: Slices) -> list[bytes]:
        """Each wanted group of the view as it is in the list."""
        found = [await self._entry(view, group, slices) for group in wanted]
        if len(self._entries) > len(view.groups):
            self._entries = {id: entry for id, entry in self._entries.items() if id in view.groups}
        return found

    async def _entry(self, view: View, group: Group, slices: Slices) -> bytes:
        members, known = view.members.get(group.id, ()), self._entries.get(group.id)
        if known and known.group is group and _same(known.members, members):
            return known.encoded
        head, tail = without(_response(group, len(members), []), "peers")
        encoded = list[bytes]()
        for some in steps(members):
            encoded.append(msgspec.json.encode([_mentioned(peer) for peer in some])[1:-1])
            await slices.turn()
        entry = _Entry(b"%b[%b]%b" % (head, b",".join(encoded), tail), group, members)
        self._entries[group.id] = entry
        return entry.encoded


def _same(known: Sequence[Peer], members: Sequence[Peer]) -> bool:
    return known is members or (len(known) == len(members) and all(map(is_, known, members)))


router = resource("groups", list_groups, get_group, create_group, update_group, delete_group)
