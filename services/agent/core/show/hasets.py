"""What `networks ls` shows of the routing peers of an HA set, and `networks history` of its switches."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import replace

from services.agent.core.ha.standing import Decision, Health, Ranked, Ranking, State, Switch
from services.agent.core.parsed import Peer
from services.agent.core.routing.hagroups import HaGroup, HaKey
from services.agent.core.show.times import time_of

UNASKED = Health()
WAITS = "takes over in a moment in which no connection breaks"


class RankedPeer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A routing peer of an HA set. network: the prefix of the set, "" for domains. rank: from 1, the one in use first
    and the others in the order in which they would follow. why: of the state, "" where that says all. latency: ns,
    0 = not measured. loss: share of the last probes. path: how it is reached, "" where it is not.
    """

    peer_id: str
    fqdn: str
    network: str
    rank: int
    state: State
    why: str
    metric: int
    latency: int
    loss: float
    path: Literal["direct", ""]


class End(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A routing peer of a switch. peer_id: "" for nobody."""

    peer_id: str
    fqdn: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, rename={"former": "from", "now": "to"}):
    """A switch. id: network id. network: the prefix, or the domains."""

    at: datetime
    id: str
    network: str
    former: End
    now: End
    cause: str
    reason: str


def ranked_peers(
    group: HaGroup, ranking: Ranking, peers: Mapping[str, Peer], health: Mapping[str, Health]
) -> Iterable[RankedPeer]:
    """The candidates of the group in their order. health: by peer id."""
    for rank, one in enumerate(ranking.candidates, 1):
        found = health.get(one.peer_id, UNASKED)
        metrics = (route.metric for route in group.routes if one.peer_id in route.routing_peers)
        yield RankedPeer(
            peer_id=one.peer_id,
            fqdn=peers[one.peer_id].fqdn if one.peer_id in peers else one.peer_id,
            network=group.network,
            rank=rank,
            state=one.state,
            why=one.why,
            metric=min(metrics, default=0),
            latency=nanoseconds(found),
            loss=found.loss,
            path="" if one.state == "no session" else "direct",
        )


def as_carried(rankings: Mapping[HaKey, Ranking], carriers: Mapping[HaKey, Decision]) -> dict[HaKey, Ranking]:
    """The rankings as traffic goes: a move that waits for its moment is none yet. carriers: who carries each group."""
    return {key: _as_carried(one, carriers.get(key)) for key, one in rankings.items()}


def _as_carried(ranking: Ranking, held: Decision | None) -> Ranking:
    chosen = next((one for one in ranking.candidates if one.state == "in use"), None)
    left = next((one for one in ranking.candidates if held is not None and one.peer_id == held.peer_id), None)
    if held is None or chosen is None or left is None or left is chosen:
        return ranking
    why = left.why or ("" if left.state in ("standby", "ready") else left.state)
    others = (one for one in ranking.candidates if one not in (chosen, left))
    candidates = (
        Ranked(left.peer_id, "in use", why),
        Ranked(chosen.peer_id, "standby", WAITS),
        *(replace(one, state="ready") if one.state == "standby" else one for one in others),
    )
    return Ranking(held.reason, held.at, candidates)


def history(switches: Iterable[Switch], network_id: str = "") -> tuple[Entry, ...]:
    """The switches, oldest first. network_id: of this network alone, "" for all."""
    return tuple(
        Entry(
            at=time_of(one.at),
            id=one.network_id,
            network=one.where,
            former=End(peer_id=one.former, fqdn=one.former_name),
            now=End(peer_id=one.now, fqdn=one.now_name),
            cause=one.cause,
            reason=one.reason,
        )
        for one in switches
        if network_id in ("", one.network_id)
    )


def nanoseconds(health: Health | None) -> int:
    """The round trip time as Go counts it, 0 = not measured."""
    return round(health.rtt_s * 1e9) if health else 0
