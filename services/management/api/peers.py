"""Peers: hosts with an agent."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, known, resource
from services.management.api.kept import Slices
from services.management.api.peeranswers import (
    AccessiblePeerResponse,
    Listed,
    LocalFlags,
    PeerResponse,
    accessible,
    shown,
)
from services.management.api.reach import NewestCounts, reached
from services.management.api.view import Newest
from services.management.api.wire import Nothing, asked, example, shown_warnings
from services.management.core import warnings
from services.management.core.commands import peers as commands
from services.management.core.commands.checks import found
from services.management.core.model.peer import Peer

PEER = example(
    {
        "name": "gateway-1",
        "ssh_enabled": False,
        "login_expiration_enabled": False,
        "inactivity_expiration_enabled": False,
    }
)


@get("/")
async def list_peers(
    call: NamedDependency[Call],
    name: Annotated[str | None, asked("Only peers whose name holds this.")] = None,
    ip: Annotated[str | None, asked("Only peers whose overlay address holds this.")] = None,
) -> Response[list[PeerResponse]]:
    """Every peer of the account."""
    slices = Slices()
    view = await call.kept(Newest).view(call.state, slices)
    counts = await call.kept(NewestCounts).of(view, slices)
    entries = await call.kept(Listed).entries(call, view, counts, slices)
    if name or ip:
        wanted = zip(view.peers, entries, strict=True)
        entries = [entry for peer, entry in wanted if (name or "") in peer.name and _has_address(peer, ip or "")]
    return call.listing(view.revision, entries)


@get("/{id:str}")
async def get_peer(call: NamedDependency[Call], id: FromPath[str]) -> Response[PeerResponse]:
    """One peer."""
    return _one(call, found(call.state.peers, id, "peer"))


@put("/{id:str}", guards=[known(lambda state: state.peers, "peer")])
async def update_peer(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.PeerRequest, PEER]
) -> Response[PeerResponse]:
    """Change a peer. A peer is created by enrolling."""
    return _one(call, await call.commit(lambda state, context: commands.update_peer(state, id, data, context)))


@delete("/{id:str}", status_code=200)
async def delete_peer(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a peer that nothing refers to; its host loses the connection."""
    await call.commit(lambda state, context: commands.delete_peer(state, id, context))
    return call.answer(Nothing())


@get("/{id:str}/accessible-peers")
async def list_accessible_peers(
    call: NamedDependency[Call], id: FromPath[str]
) -> Response[list[AccessiblePeerResponse]]:
    """The peers that a policy connects a peer with; none for an unknown peer."""
    state = call.state
    peer = state.peers.get(id)
    others = sorted(reached(state, peer)) if peer else []
    return call.answer([accessible(call, state.peers[other]) for other in others])


def _has_address(peer: Peer, text: str) -> bool:
    return text in peer.address_v4 or text in peer.address_v6


def _one(call: Call, peer: Peer) -> Response[PeerResponse]:
    now = call.state.peers.get(peer.id)
    told = shown_warnings(warnings.of_peer(call.state, now)) if now else []
    response = msgspec.structs.replace(shown(call, now or peer), local_flags=LocalFlags(), warnings=told)
    return call.answer(response)


router = resource("peers", list_peers, get_peer, update_peer, delete_peer, list_accessible_peers)
