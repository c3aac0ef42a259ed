"""Which routing peers of HA sets have gone, and when people are told of it.

A peer has gone when its agent was away for a minute, or when by its own word it does not carry a route of such a set.
That is told once, however many routes the peer serves, and of one that comes and goes once in ten minutes, with how
often it went. What was told stands in the peer (Peer.outage), so that no replica tells it twice.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec

from services.management.core.feed.offers import ha_set, routing_peers, served_by
from services.management.core.feed.unit import LastWord
from services.management.core.model.peer import Outage, Peer
from services.management.core.model.route import Route
from services.management.core.state import AccountState

AWAY_FOR_S = 60.0
WITHDRAWN_FOR_S = 3.0
"""A gateway that starts carries nothing for a moment."""

AGAIN_AFTER_S = 600.0
"""From one outage that is told of to the next one of the same peer."""

Place: TypeAlias = tuple[str, str]
"""Account and peer."""


class Absence(msgspec.Struct, frozen=True):
    """reason: one line. networks: network ids of the routes concerned, sorted. lasts_s: how long until it counts."""

    reason: str
    networks: tuple[str, ...]
    lasts_s: float


class Told(msgspec.Struct, frozen=True):
    """What is to be told: that the peer has gone, and why, or without an absence that it is back.

    times: how often it went since it was last told of.
    """

    peer_id: str
    absence: Absence | None
    times: int = 1


def absence(state: AccountState, peer: Peer, word: LastWord | None) -> Absence | None:
    """Why the peer is missed, None while it is not: it is there, or has no part in an HA set, or was never heard of.

    Of one that was told to have gone every route counts: it is back when it carries all that it serves.
    """
    if word is None or (word.agent and not word.withdrawn):
        return None
    missed = is_told(peer.outage)
    routes = {route.id: route for route in served_by(state, peer) if missed or _in_ha_set(state, route)}
    if not word.agent:
        if not routes and not missed:
            return None
        return Absence("its agent is not heard any more", _networks(routes.values()), AWAY_FOR_S)
    reasons = {entry.route_id: entry.reason for entry in word.withdrawn if entry.route_id in routes}
    if not reasons:
        return None
    reason = ", ".join(dict.fromkeys(reasons[id] for id in sorted(reasons)))
    return Absence(reason, _networks(routes[id] for id in reasons), WITHDRAWN_FOR_S)


def is_told(outage: Outage | None) -> bool:
    """Whether the last that people were told of the peer is that it has gone."""
    return outage is not None and not outage.over


class _Watched(msgspec.Struct, gc=False):
    """since: when it began to be missed, None while it is not. gone: whether that has lasted. times: how often it has
    gone since it was last told of."""

    since: float | None = None
    gone: bool = False
    times: int = 0


class Outages:
    """Watches the peers that are missed, or were told to have gone. All of it can be found out anew.

    find: gives the account of a place, its peer and what was heard last of it, None for a peer that is no more.
    """

    def __init__(self, find: Callable[[Place], tuple[AccountState, Peer, LastWord | None] | None]) -> None:
        self._find = find
        self._watched: dict[Place, _Watched] = {}

    def forget(self) -> None:
        self._watched.clear()

    def look(self, place: Place) -> None:
        """Something may have changed about the peer."""
        found = self._find(place)
        if found and place not in self._watched and (is_told(found[1].outage) or absence(*found)):
            self._watched[place] = _Watched()

    def due(self, now: float, wall: float) -> Iterator[tuple[str, Told]]:
        """Account, and what is to be told there now; again, until the peer's outage says so.

        now: monotonic seconds. wall: unix seconds.
        """
        for place, watched in list(self._watched.items()):
            found = self._find(place)
            if found is None:
                del self._watched[place]
                continue
            _, peer, word = found
            if word is None:  # its facts are lost: neither gone nor back
                continue
            missed = absence(*found)
            told, may = is_told(peer.outage), may_be_told(peer.outage, wall)
            _follow(watched, missed, now)
            if missed is None and told:
                yield place[0], Told(peer.id, None)
            elif missed is None and (may or not watched.times):
                del self._watched[place]
            elif watched.gone and not told and may:
                yield place[0], Told(peer.id, missed, watched.times)
            elif told:
                watched.times = 0


def _follow(watched: _Watched, missed: Absence | None, now: float) -> None:
    if missed is None:
        watched.since, watched.gone = None, False
        return
    if watched.since is None:
        watched.since = now
    if not watched.gone and now - watched.since >= missed.lasts_s:
        watched.gone = True
        watched.times += 1


def may_be_told(last: Outage | None, wall: float) -> bool:
    """Whether the last outage was long enough ago; a clock that was set back does not count."""
    return last is None or not 0 <= wall - last.at < AGAIN_AFTER_S


def _in_ha_set(state: AccountState, route: Route) -> bool:
    serving: set[str] = set()
    for member in ha_set(state, route):
        if member.enabled:
            serving.update(routing_peers(state, member))
        if len(serving) > 1:
            return True
    return False


def _networks(routes: Iterable[Route]) -> tuple[str, ...]:
    return tuple(sorted({route.network_id for route in routes}))
