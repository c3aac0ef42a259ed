"""What `networks ls` shows of the routing peers of an HA set, and `networks history` of its switches."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from services.agent.core.ha.standing import Health, Ranking, State, Switch
from services.agent.core.parsed import Peer
from services.agent.core.routing.hagroups import HaGroup
from services.agent.core.show.times import time_of

UNASKED = Health()


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
