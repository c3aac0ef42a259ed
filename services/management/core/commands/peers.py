"""Change and delete peers. How they come to be is in enrol.py."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec.structs import replace

from services.management.core import references
from services.management.core.addresses import check_free
from services.management.core.commands.checks import found
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Request, about
from services.management.core.entities import ref
from services.management.core.labels import free_label, label_of
from services.management.core.model.account import Account
from services.management.core.model.commit import Activity
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from services.management.errors import InUse, Invalid, Unsuitable, names


class PeerRequest(Request, frozen=True, kw_only=True):
    """The body of PUT /api/peers/{id}. ip, ipv6: the present one leaves the address as it is, as an absent one does."""

    name: Annotated[str, about("Not empty; the DNS name follows it.", "gateway-1", needed=True)] = ""
    ssh_enabled: bool = False
    login_expiration_enabled: Annotated[bool, about("Only for hosts that a user enrolled.")] = False
    inactivity_expiration_enabled: Annotated[bool, about("Only for hosts that a user enrolled.")] = False
    approval_required: Annotated[bool, about("Every host is approved by its enrolment: false or absent.")] = False
    ip: Annotated[str | None, about("A free address of the overlay; absent leaves it.", "100.64.0.17")] = None
    ipv6: Annotated[str | None, about("A free address of the overlay; absent leaves it.")] = None
    draining: Annotated[
        bool | None, about("Have clients leave the routes that it serves; absent leaves it as it is.")
    ] = None


def update_peer(state: AccountState, id: str, request: PeerRequest, context: Context) -> Decision[Peer]:
    """Raises Unknown, Invalid or Unsuitable."""
    old = found(state.peers, id, "peer")
    expiry = (request.login_expiration_enabled, request.inactivity_expiration_enabled)
    if not old.user_id and expiry != (old.login_expiration_enabled, old.inactivity_expiration_enabled):
        raise Unsuitable(f"peer {old.name} was not enrolled by a user: its login cannot expire")
    if request.approval_required:
        raise Unsuitable("approval_required: a peer is approved by enrolling, delete it to lock it out")
    addressed = replace(
        old,
        ssh_enabled=request.ssh_enabled,
        login_expiration_enabled=request.login_expiration_enabled,
        inactivity_expiration_enabled=request.inactivity_expiration_enabled,
        address_v4=_address_v4(state, old, request.ip),
        address_v6=_address_v6(state, old, request.ipv6),
        draining=old.draining if request.draining is None else request.draining,
    )
    new = _renamed(state, addressed, request.name)
    activities = _activities(state.account, old, new)
    if not activities:
        return unchanged(old)
    return changed(context, state.account.id, new, activities, upserts=[new])


def delete_peer(state: AccountState, id: str, context: Context) -> Decision[None]:
    """It leaves its groups with it. Raises Unknown, or InUse (decision R10)."""
    peer = found(state.peers, id, "peer")
    users = references.to(state, peer)
    if users:
        raise InUse(f"peer {peer.name} is used by {names(users)}: remove it there first")
    activity = Activity(code="user.peer.delete", target_id=id, meta=peer_meta(state.account, peer))
    return changed(context, state.account.id, None, [activity], deletes=[ref(peer)])


def peer_meta(account: Account, peer: Peer) -> dict[str, str | int | bool | list[str]]:
    """What the audit trail says of a peer, with NetBird's names."""
    return {
        "name": peer.name,
        "fqdn": peer.fqdn(account.dns_domain),
        "ip": peer.address_v4,
        "created_at": datetime.fromtimestamp(peer.created_at, UTC).isoformat(),
    }


def _address_v4(state: AccountState, peer: Peer, wanted: str | None) -> str:
    if wanted is None:
        return peer.address_v4
    return check_free(state, wanted, state.account.network_v4, "ip", own=peer.address_v4)


def _address_v6(state: AccountState, peer: Peer, wanted: str | None) -> str:
    if wanted is None or wanted == peer.address_v6:
        return peer.address_v6
    if not peer.address_v6:
        raise Invalid(f"ipv6: peer {peer.name} has no IPv6")
    return check_free(state, wanted, state.account.network_v6, "ipv6", own=peer.address_v6)


def _renamed(state: AccountState, peer: Peer, name: str) -> Peer:
    if name == peer.name:
        return peer
    wanted = label_of(name)
    if not wanted:
        raise Invalid("name must have a letter or a digit before its first dot")
    label = free_label(state, wanted, peer.address_v4, own_id=peer.id, suffixed=peer.ephemeral)
    return replace(peer, name=name, dns_label=label)


def _activities(account: Account, old: Peer, new: Peer) -> list[Activity]:
    """One for each thing that changed."""
    meta = peer_meta(account, new)
    codes = []
    if new.ssh_enabled != old.ssh_enabled:
        codes.append("peer.ssh.enable" if new.ssh_enabled else "peer.ssh.disable")
    if new.name != old.name:
        codes.append("peer.rename")
    if new.draining != old.draining:
        codes.append("peer.drain.enable" if new.draining else "peer.drain.disable")
    for kind in ("login", "inactivity"):
        before, after = (getattr(peer, f"{kind}_expiration_enabled") for peer in (old, new))
        if after != before:
            codes.append(f"peer.{kind}.expiration.{'enable' if after else 'disable'}")
    activities = [Activity(code=code, target_id=new.id, meta=meta) for code in codes]
    for before, after in ((old.address_v4, new.address_v4), (old.address_v6, new.address_v6)):
        if after != before:
            moved = {**meta, "old_ip": before, "ip": after}
            activities.append(Activity(code="peer.ip.update", target_id=new.id, meta=moved))
    return activities
