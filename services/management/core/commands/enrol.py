"""A host becomes a peer."""

import msgspec
from msgspec.structs import asdict, replace

from services.management.core.addresses import free_address
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.peers import peer_meta
from services.management.core.labels import MAX_DNS_LENGTH, free_label, is_label, label_of
from services.management.core.model.commit import Activity, Actor
from services.management.core.model.peer import Peer
from services.management.core.model.setupkey import SetupKey
from services.management.core.state import AccountState, Intent
from services.management.errors import NotEnrolled
from shared import nkey
from shared.events.signals import Enrolled, EnrolRequest, PeerMeta
from shared.net.wireguard import is_public_key

MAX_EXTRA_LABELS = 32
MAX_META_LENGTH = 255
"""Longest text that a host may say of itself; host names and versions are far shorter."""

NAMELESS = "peer"
"""What a host is called that gives no usable name."""


class AddressPicks(msgspec.Struct, frozen=True):
    """Random numbers of 64 bits that the new peer's addresses are taken from, at least one each."""

    v4: tuple[int, ...]
    v6: tuple[int, ...]


def enrol(
    intent: Intent, state: AccountState, request: EnrolRequest, key_hash: str, picks: AddressPicks, context: Context
) -> Decision[Enrolled]:
    """The peer of the request's keys, a new one unless there is one already, which uses nothing up.

    state: the account of the presented setup key, one of `intent`'s. The commit is in the name of the setup key,
    whoever the context names. Raises NotEnrolled.
    """
    key = _setup_key(intent, state, key_hash)
    _check_keys(request)
    known = _known_peer(intent, state, request)
    if known is not None:
        return unchanged(Enrolled(account=state.account.id, peer_id=known.id))
    _check_usable(key, context.now)
    _check_meta(request.meta)
    _check_labels(state, key, request.extra_dns_labels)
    peer = _peer(state, key, request, picks, context)
    used = replace(key, used_times=key.used_times + 1, last_used=context.now)
    meta = {**peer_meta(state.account, peer), "setup_key_name": key.name}
    activity = Activity(code="peer.setupkey.add", target_id=peer.id, meta=meta)
    by_key = Context(context.now, Actor(id=key.id, name=key.name), context.new_id)
    result = Enrolled(account=state.account.id, peer_id=peer.id)
    return changed(by_key, state.account.id, result, [activity], upserts=[peer, used])


def _setup_key(intent: Intent, state: AccountState, key_hash: str) -> SetupKey:
    owner = intent.setup_key_by_hash(key_hash)
    if owner is None or owner.account != state.account.id:
        raise NotEnrolled("unknown", "the setup key is not known: check it, or ask for a new one")
    return state.setup_keys[owner.id]


def _check_keys(request: EnrolRequest) -> None:
    if not is_public_key(request.wireguard_key):
        raise NotEnrolled("invalid", "the wireguard key is not one: make a new one")
    if not nkey.is_public_user(request.bus_key):
        raise NotEnrolled("invalid", "the bus key is not a public user nkey: make a new one")


def _known_peer(intent: Intent, state: AccountState, request: EnrolRequest) -> Peer | None:
    """The peer that has both keys already; raises NotEnrolled when only one matches, or in another account."""
    by_wireguard = intent.peer_by_wireguard_key(request.wireguard_key)
    by_bus = intent.peer_by_bus_key(request.bus_key)
    if by_wireguard is None and by_bus is None:
        return None
    if by_wireguard and by_bus and by_wireguard.id == by_bus.id and by_bus.account == state.account.id:
        return state.peers[by_bus.id]
    raise NotEnrolled("key-in-use", "another peer has the wireguard key or the bus key: make new ones")


def _check_usable(key: SetupKey, now: float) -> None:
    match key.state(now):
        case "revoked":
            raise NotEnrolled("revoked", "the setup key is revoked: ask for a new one")
        case "expired":
            raise NotEnrolled("expired", "the setup key has expired: ask for a new one")
        case "overused":
            raise NotEnrolled("used-up", "the setup key is used up: ask for a new one")


def _check_meta(meta: PeerMeta) -> None:
    for field, value in asdict(meta).items():
        if isinstance(value, str) and len(value) > MAX_META_LENGTH:
            raise NotEnrolled("invalid", f"meta.{field} is longer than {MAX_META_LENGTH} characters")


def _check_labels(state: AccountState, key: SetupKey, labels: tuple[str, ...]) -> None:
    """Peers may share an extra label, but none may take another's own."""
    if labels and not key.allow_extra_dns_labels:
        raise NotEnrolled("invalid", "the setup key does not allow extra dns labels: leave them out")
    if len(labels) > MAX_EXTRA_LABELS:
        raise NotEnrolled("invalid", f"at most {MAX_EXTRA_LABELS} extra dns labels are allowed")
    for label in labels:
        if not is_label(label):
            raise NotEnrolled("invalid", f"{label[:MAX_DNS_LENGTH]!r} is not a dns label: use letters, digits and '-'")
        if any(state.peers[id].dns_label == label for id in state.label_holders(label)):
            raise NotEnrolled("invalid", f"{label} is the name of another peer: choose another extra dns label")


def _peer(state: AccountState, key: SetupKey, request: EnrolRequest, picks: AddressPicks, context: Context) -> Peer:
    meta = request.meta
    address_v4 = _address(state, state.account.network_v4, picks.v4)
    wanted = label_of(meta.hostname) or NAMELESS
    return Peer(
        id=context.new_id(),
        name=meta.hostname or NAMELESS,
        dns_label=free_label(state, wanted, address_v4, suffixed=key.ephemeral),
        wireguard_key=request.wireguard_key,
        bus_key=request.bus_key,
        address_v4=address_v4,
        address_v6=_address(state, state.account.network_v6, picks.v6) if meta.ipv6 else "",
        groups=tuple(sorted(key.auto_groups)),
        meta=meta,
        created_at=context.now,
        last_login=context.now,
        setup_key=key.id,
        ephemeral=key.ephemeral,
        extra_dns_labels=tuple(dict.fromkeys(request.extra_dns_labels)),
    )


def _address(state: AccountState, prefix: str, picks: tuple[int, ...]) -> str:
    address = free_address(state, prefix, picks)
    if address is None:
        raise NotEnrolled("unavailable", f"every address of {prefix} is taken: delete peers that are gone")
    return address
