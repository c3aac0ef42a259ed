"""When an HA set may go to another routing peer although the present one still works.

A connection that is masqueraded does not outlive a move. So a move that is in no hurry waits for a moment in which none
is under way, as long as its patience lasts; whatever else happens is let through at once.
"""

from collections.abc import Mapping

from services.agent.core.changes import patched
from services.agent.core.documents import Documents
from services.agent.core.ha.standing import Decision, Health
from services.agent.core.parsed import Route
from services.agent.core.routing.hagroups import HaKey, ha_key

DRAIN_PATIENCE_S = 5.0
"""The routing peer that drains waits for 8 to 10 s (draining.py), and its word takes a while to get here."""
PATIENCE_S = 30.0
"""For a better one. What is still under way then, such as a long download, ends with a reset."""

Routes = Mapping[HaKey, tuple[Route, ...]]


class Handover:
    """carriers: who carries each set of the decisions, which is who did before as long as a move waits.

    waiting: the moves that do, set → decision. next_deadline: when patience ends for one of them, monotonic.
    """

    def __init__(self) -> None:
        self.carriers: Mapping[HaKey, Decision] = {}
        self.waiting: Mapping[HaKey, Decision] = {}
        self.next_deadline: float | None = None
        self._since: dict[HaKey, tuple[str, float]] = {}
        self._routes_of: Mapping[str, Route] = {}
        self._routes: Routes = {}

    def update(
        self,
        documents: Documents,
        decisions: Mapping[HaKey, Decision],
        released: Mapping[HaKey, Decision],
        connected: frozenset[str],
        health: Mapping[str, Health],
        now: float,
    ) -> None:
        """Take what is known. released: moves whose moment has come. connected: public keys, health: by peer id."""
        self._follow(documents)
        gone = self.carriers.keys() - decisions.keys()
        changes: dict[HaKey, Decision | None] = dict.fromkeys(gone)
        for key in gone:
            self._since.pop(key, None)
        waiting: dict[HaKey, Decision] = {}
        deadlines: list[float] = []
        for key, decision in decisions.items():
            held = self.carriers.get(key)
            until = self._until(key, held, decision, documents, connected, health, now) if held is not None else now
            if held is None or until <= now or released.get(key) == decision:
                self._since.pop(key, None)
                changes[key] = decision
            else:
                waiting[key] = decision
                deadlines.append(until)
        self.carriers = patched(self.carriers, changes)
        self.waiting = waiting if waiting != self.waiting else self.waiting
        self.next_deadline = min(deadlines, default=None)

    def _until(
        self,
        key: HaKey,
        held: Decision,
        decision: Decision,
        documents: Documents,
        connected: frozenset[str],
        health: Mapping[str, Health],
        now: float,
    ) -> float:
        """How long the move may wait."""
        if decision.peer_id == held.peer_id:
            return now
        patience_s = self._patience_s(key, held.peer_id, decision.peer_id, documents, connected, health)
        target, since = self._since.get(key, ("", now))
        if target != decision.peer_id:
            since = now
            self._since[key] = decision.peer_id, now
        return since + patience_s

    def _patience_s(
        self,
        key: HaKey,
        former: str,
        to: str,
        documents: Documents,
        connected: frozenset[str],
        health: Mapping[str, Health],
    ) -> float:
        """0.0 where the former one does not work any more, where nobody follows it, and where no connection breaks."""
        routes = self._routes.get(key, ())
        mine = [route for route in routes if former in route.routing_peers]
        peer, said = documents.peers.get(former), health.get(former)
        if not to or peer is None or peer.wireguard_key not in connected:
            return 0.0
        if said is not None and said.verdict == "down" and said.public_key == peer.wireguard_key:
            return 0.0
        presence = documents.presences.get(former)
        withdrawn = {one.route_id for one in presence.withdrawn} if presence is not None else set[str]()
        if all(route.route_id in withdrawn for route in mine):
            return 0.0
        if not any(route.masquerade for route in routes if {former, to} & set(route.routing_peers)):
            return 0.0
        return DRAIN_PATIENCE_S if presence is not None and presence.draining else PATIENCE_S

    def _follow(self, documents: Documents) -> None:
        if documents.routes is self._routes_of:
            return
        self._routes_of = documents.routes
        routes: dict[HaKey, list[Route]] = {}
        for route in documents.routes.values():
            routes.setdefault(ha_key(route), []).append(route)
        self._routes = {key: tuple(members) for key, members in routes.items()}
