"""Which routing peers have had no agent for a while: a hint, for their kernels may go on without."""

from collections.abc import Mapping

from shared.events.documents import PresenceDoc

GONE_AFTER_S = 60.0
"""An agent that is started anew, or whose bus moved, is back by then."""


class Agents:
    """agentless: peer ids. It is judged by what is told over a session of this host's own: without one nobody is judged
    anew, and whoever was stays so, since a control plane that is away moves nothing."""

    def __init__(self) -> None:
        self._presences: Mapping[str, PresenceDoc] = {}
        self._absent: dict[str, float] = {}
        self._is_open = False
        self.agentless: frozenset[str] = frozenset()

    def update(self, presences: Mapping[str, PresenceDoc], *, is_open: bool, now: float) -> frozenset[str]:
        """Take over what is told; gives the peers that are judged otherwise now. is_open: whether there is a session
        with the bus. now: monotonic seconds."""
        if presences is not self._presences or is_open != self._is_open:
            self._presences, self._is_open = presences, is_open
            absent = [peer_id for peer_id, presence in presences.items() if not presence.agent]
            self._absent = {peer_id: self._absent.get(peer_id, now) for peer_id in absent} if is_open else {}
        former = self.agentless
        kept = {peer_id for peer_id in former if peer_id in self._presences and not self._presences[peer_id].agent}
        gone = {peer_id for peer_id, at in self._absent.items() if at + GONE_AFTER_S <= now}
        self.agentless = frozenset(kept | gone)
        return former ^ self.agentless

    def next_deadline(self) -> float | None:
        due = (at + GONE_AFTER_S for peer_id, at in self._absent.items() if peer_id not in self.agentless)
        return min(due, default=None)
