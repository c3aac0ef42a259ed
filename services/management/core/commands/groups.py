"""Create, change and delete groups. Membership is written on the peers' side (see model/peer.py)."""

from collections.abc import Iterable
from typing import Annotated

from msgspec.structs import replace

from services.management.core import references
from services.management.core.commands.checks import existing_peers, found, named, unique
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Request, about
from services.management.core.commands.routing_peers import check_joining
from services.management.core.entities import Entity, ref
from services.management.core.model.commit import Activity
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.core.model.policy import ResourceRef
from services.management.core.state import AccountState
from services.management.errors import AlreadyThere, InUse, Invalid, names


class GroupRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/groups, which replaces name and members. Absent and null lists are empty."""

    name: Annotated[str, about("Not empty, and no other group's.", "office", needed=True)] = ""
    peers: Annotated[tuple[str, ...] | None, about("Ids of the members.", ["d0fsqhs3r4mc73a1b2c0"])] = None
    resources: Annotated[tuple[ResourceRef, ...] | None, about("There are none yet.")] = None


def create_group(state: AccountState, request: GroupRequest, context: Context) -> Decision[Group]:
    """Raises Invalid or AlreadyThere."""
    members = _checked(state, request, own_id="")
    group = Group(id=context.new_id(), name=request.name)
    activities = [
        Activity(code="group.add", target_id=group.id, meta={"name": group.name}),
        *_membership(state, group, "peer.group.add", members),
    ]
    return changed(context, state.account.id, group, activities, upserts=[group, *_joined(members, group)])


def update_group(state: AccountState, id: str, request: GroupRequest, context: Context) -> Decision[Group]:
    """Name and members become what the request says. Raises Unknown, Invalid, AlreadyThere or Unsuitable."""
    old = found(state.groups, id, "group")
    if id == state.account.all_group:
        raise Invalid(f"group {old.name} holds every peer and cannot be changed")
    wanted = _checked(state, request, own_id=id)
    group = replace(old, name=request.name)
    ids = {peer.id for peer in wanted}
    joining = [peer for peer in wanted if id not in peer.groups]
    leaving = [state.peers[peer_id] for peer_id in sorted(state.members(id)) if peer_id not in ids]
    check_joining(state, id, joining)
    renamed = [] if group == old else [Activity(code="group.update", target_id=id, meta=_renaming(old, group))]
    activities = [
        *renamed,
        *_membership(state, group, "peer.group.add", joining),
        *_membership(state, group, "peer.group.delete", leaving),
    ]
    if not activities:
        return unchanged(group)
    upserts: list[Entity] = [*_joined(joining, group), *_left(leaving, group)]
    if renamed:
        upserts.append(group)
    return changed(context, state.account.id, group, activities, upserts=upserts)


def delete_group(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Its members leave it. Raises Unknown, Invalid for All, or InUse (decision R10)."""
    group = found(state.groups, id, "group")
    if id == state.account.all_group:
        raise Invalid(f"group {group.name} holds every peer and cannot be deleted")
    users = references.to(state, group)
    if users:
        raise InUse(f"group {group.name} is used by {names(users)}: remove it there first")
    activity = Activity(code="group.delete", target_id=id, meta={"name": group.name})
    return changed(context, state.account.id, None, [activity], deletes=[ref(group)])


def _checked(state: AccountState, request: GroupRequest, own_id: str) -> list[Peer]:
    """The members that the request names."""
    named(request.name, "group")
    if any(other.name == request.name for other in state.groups.values() if other.id != own_id):
        raise AlreadyThere(f"a group with the name {request.name} exists already: choose another name")
    if request.resources:
        raise Invalid(f"resources: resource {request.resources[0].id} not found")
    return existing_peers(state, unique(request.peers), "peers")


def _joined(peers: Iterable[Peer], group: Group) -> list[Peer]:
    return [replace(peer, groups=tuple(sorted({*peer.groups, group.id}))) for peer in peers]


def _left(peers: Iterable[Peer], group: Group) -> list[Peer]:
    return [replace(peer, groups=tuple(id for id in peer.groups if id != group.id)) for peer in peers]


def _renaming(old: Group, new: Group) -> dict[str, str | int | bool | list[str]]:
    return {"name": new.name, "old_name": old.name, "new_name": new.name}


def _membership(state: AccountState, group: Group, code: str, peers: Iterable[Peer]) -> list[Activity]:
    return [
        Activity(
            code=code,
            target_id=peer.id,
            meta={
                "group": group.name,
                "group_id": group.id,
                "peer_ip": peer.address_v4,
                "peer_fqdn": peer.fqdn(state.account.dns_domain),
            },
        )
        for peer in peers
    ]
