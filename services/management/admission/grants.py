"""What each connection may do: the whole list. The bus holds everybody to it.

How much of it is the same for all (shared/bus/embedded/config.py): of limits in an answer to the auth callout
nats-server takes no notice.
"""

import hashlib
from collections.abc import Iterable

from services.management.admission.jwt import Grant
from services.management.core.feed.visibility import audiences_of
from services.management.core.model.peer import Peer
from services.management.core.state import AccountState
from shared.events import subjects
from shared.events.logins import ENROL_USER, HOST_ACCOUNT

ENROL_LIFETIME_S = 30.0


def enrolling(setup_key: str, now: float) -> Grant:
    """The right to ask on the one subject that is the hash of the presented key, for a moment."""
    key_hash = subjects.setup_key_hash(setup_key)
    return Grant(
        name=f"{ENROL_USER}.{key_hash[:16]}",
        account=HOST_ACCOUNT,
        publish=(subjects.enrol(key_hash),),
        subscribe=(f"{subjects.inbox(key_hash)}.>",),
        expires_at=now + ENROL_LIFETIME_S,
    )


def peering(state: AccountState, peer: Peer) -> Grant:
    """A peer's own subjects and what its audiences may read."""
    account = state.account.id
    audiences = audiences_of(peer.id, state.groups_of(peer))
    return Grant(
        name=connection_name(account, peer.id, audiences),
        account=HOST_ACCOUNT,
        publish=(
            subjects.report_fact(account, peer.id),
            subjects.candidacy_fact(account, peer.id),
            subjects.lease(account, peer.id),
            subjects.resolved(account, peer.id),
            subjects.signals_from(account, peer.id),
            subjects.beat(account, peer.id),
            *(subjects.create_catch_up(account, peer.id, audience) for audience in audiences),
            *(subjects.pull_catch_up(peer.id, audience) for audience in audiences),
            *(subjects.delete_catch_up(peer.id, audience) for audience in audiences),
        ),
        subscribe=(
            subjects.signals_to(account, peer.id),
            subjects.resolve(account, peer.id),
            subjects.FEED_LEADER,
            f"{subjects.inbox(peer.id)}.>",
            *(subjects.live_feed_of(account, audience) for audience in audiences),
        ),
        expires_at=login_expires_at(state, peer),
    )


def login_expires_at(state: AccountState, peer: Peer) -> float:
    """Unix seconds at which the peer has to log in again (decision C5), 0.0 = never. Only people's logins expire."""
    settings = state.account.settings
    if not (peer.user_id and peer.login_expiration_enabled and settings.peer_login_expiration_enabled):
        return 0.0
    return peer.last_login + settings.peer_login_expiration_s


def connection_name(account: str, peer: str, audiences: Iterable[str]) -> str:
    """`<account>.<peer>.<digest of the audiences>`: shows from outside which rights a connection was given."""
    digest = hashlib.sha256(" ".join(audiences).encode()).hexdigest()[:16]
    return f"{account}.{peer}.{digest}"


def named_peer(name: str) -> tuple[str, str] | None:
    """Account and peer of a connection's name, None for one that is no peer's."""
    match name.split("."):
        case [account, peer, _]:
            return account, peer
    return None
