"""Tell that routing peers have gone and are back: entries of the audit trail, and what was told in the peer."""

from collections.abc import Sequence

from msgspec.structs import replace

from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.peers import peer_meta
from services.management.core.model.commit import Activity
from services.management.core.model.peer import Outage, Peer
from services.management.core.outages import Told, is_told, may_be_told
from services.management.core.state import AccountState


def tell(state: AccountState, news: Sequence[Told], context: Context) -> Decision[None]:
    """What another replica has told meanwhile is not told again, and nothing of a peer that is no more."""
    activities, upserts = list[Activity](), list[Peer]()
    for told in news:
        peer = state.peers.get(told.peer_id)
        if peer is None or is_told(peer.outage) is (told.absence is not None):
            continue
        if told.absence and not may_be_told(peer.outage, context.now):
            continue
        activities.append(_activity(state, peer, told, context.now))
        upserts.append(replace(peer, outage=_outage(peer, told, context.now)))
    if not activities:
        return unchanged(None)
    return changed(context, state.account.id, None, activities, upserts=upserts)


def _outage(peer: Peer, told: Told, now: float) -> Outage:
    if told.absence is None and peer.outage:
        return replace(peer.outage, over=True)
    return Outage(at=now)


def _activity(state: AccountState, peer: Peer, told: Told, now: float) -> Activity:
    meta = peer_meta(state.account, peer)
    if told.absence is None:
        away = max(0, round(now - peer.outage.at)) if peer.outage else 0
        return Activity(code="routing.peer.return", target_id=peer.id, meta={**meta, "after_s": away})
    absence = told.absence
    about: dict[str, str | int | bool | list[str]] = {
        "reason": absence.reason,
        "networks": list(absence.networks),
        "times": told.times,
    }
    return Activity(code="routing.peer.gone", target_id=peer.id, meta={**meta, **about})
