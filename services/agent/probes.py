"""Asks routing peers over the tunnel whether they are there: their kernels answer, whatever becomes of their agents."""

import time
from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from services.agent.cells import Watch
from services.agent.core.firewall import probes as permitted
from services.agent.core.ha.paces import is_news, is_urgent, targets
from services.agent.core.ha.standing import Health, Probed
from services.agent.core.ha.traffic import Look, Traffic, probe_bytes
from services.agent.core.kernel import PeerStats
from services.agent.ports import Asking
from services.agent.situation import Situation
from shared.tasks import end_if_cancelled

TOLD_APART_S = 1.0
"""Between two times that nothing but another round trip time or loss is told."""

UNASKED = "routing peers are not probed, and one that dies is left minutes later: allow raw sockets (CAP_NET_RAW)"

log = structlog.get_logger()


class Probes:
    """Keeps `health` true for those in `probed`, and writes `unasked`."""

    def __init__(self, situation: Situation, asking: Asking) -> None:
        self._situation = situation
        self._asking = asking
        self._traffic = Traffic()
        self._counters: Mapping[str, PeerStats] = {}
        self._paths: Mapping[str, tuple[str | None, int | None]] = {}
        self._told_at = float("-inf")
        self._probed: Mapping[str, Probed] = {}
        self._watch = Watch(situation.probed, situation.tunnels, situation.counters)

    async def run(self) -> None:
        """Until cancelled."""
        if not self._asking.open(self._tell):
            self._situation.unasked.set(UNASKED)
            log.warning("without probes", problem=UNASKED)
        try:
            while True:
                end_if_cancelled()
                self._watch.catch_up()
                next_at = self.step()
                await self._watch.wait(None if next_at is None else max(0.0, next_at - time.monotonic()))
        finally:
            self._asking.close()

    def step(self) -> float | None:
        """Ask who is due; the monotonic second of the next step."""
        situation = self._situation
        self._look_at_counters()
        self._look_at_paths()
        next_at = self._asking.ask(
            targets(situation.probed.value, situation.tunnels.value.connected, self._traffic.carrying)
        )
        self._tell()
        return next_at

    def _look_at_counters(self) -> None:
        situation, counters = self._situation, self._situation.counters.value
        if counters is self._counters:
            return
        self._counters = counters
        asked, probed = self._asking.asked, situation.probed.value
        looks = {
            peer_id: Look(
                stats=counters[one.public_key],
                probes=asked.get(peer_id, 0),
                probe_bytes=probe_bytes(one.address),
            )
            for peer_id, one in probed.items()
            if one.public_key in counters
        }
        asking = permitted.asking(situation.passed.value.desired.ruleset)
        clients = [peer_id for peer_id in looks if probed[peer_id].address in asking]
        self._traffic.look(looks, time.monotonic(), clients=clients)
        self._asking.nudge(self._traffic.moved)

    def _look_at_paths(self) -> None:
        """Another endpoint to program, or a peer that is added anew, is news before the device counts anything."""
        tunnels, before = self._situation.tunnels.value, self._paths
        self._paths = {
            peer_id: (tunnels.endpoints.get(one.public_key), tunnels.resets.get(one.public_key))
            for peer_id, one in self._situation.probed.value.items()
        }
        self._asking.nudge(peer_id for peer_id, path in self._paths.items() if before.get(peer_id, path) != path)

    def _tell(self) -> None:
        told, now, found = self._situation.health.value, time.monotonic(), self._asking.health
        probed = self._situation.probed.value
        health = {peer_id: found.get(peer_id, Health()) for peer_id in probed}
        urgent = probed is not self._probed or is_urgent(told, health)
        if urgent or (now - self._told_at >= TOLD_APART_S and is_news(told, health)):
            self._told_at, self._probed = now, probed
            self._situation.health.set(
                {peer_id: replace(one, public_key=probed[peer_id].public_key) for peer_id, one in health.items()}
            )
