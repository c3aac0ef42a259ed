"""Has the HA sets decided on at once when something happens to their candidates, and says whom to ask about them."""

import time
from functools import partial

import structlog

from services.agent.cells import Watch
from services.agent.core.documents import Documents
from services.agent.core.ha.choice import CAUSES
from services.agent.core.ha.handover import Handover
from services.agent.core.ha.hasets import HaSets, Known
from services.agent.core.ha.moves import Moves
from services.agent.core.ha.standing import STATES, Switch
from services.agent.situation import Situation
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

KEPT = 50
"""Switches that people are shown."""

log = structlog.get_logger()

_switches = Counter(
    "whimbrel_agent_switches", "HA sets that went to another routing peer, or to none", ["reason"], registry=REGISTRY
)
_candidates = Gauge(
    "whimbrel_agent_candidates", "Routing peers of the HA sets that this host uses", ["state"], registry=REGISTRY
)
_ignored = Gauge(
    "whimbrel_agent_candidates_ignored",
    "Words on candidates of another key, which count for nothing",
    registry=REGISTRY,
)


class Choosing:
    """Writes `decisions`, `carriers`, `rankings`, `probed` and `switches`. switches: the last ones of runs before."""

    def __init__(self, situation: Situation, switches: tuple[Switch, ...] = ()) -> None:
        self._situation = situation
        self._former = switches
        self._sets = HaSets()
        self._handover = Handover()
        self._moves = Moves()
        self._watch = Watch(
            situation.documents,
            situation.choices,
            situation.tunnels,
            situation.health,
            situation.bus,
            situation.passed,
            situation.released,
        )
        _ignored.set_function(lambda: self._sets.ignored)
        for cause in CAUSES:
            _switches.labels(cause)
        for state in STATES:
            _candidates.labels(state).set_function(partial(self._count, state))

    def begin(self) -> None:
        """Take up where the last run ended, before the kernel is touched: who carries a set is what the device says."""
        counters = self._situation.counters.value
        found = {prefix: key for key, peer in counters.items() for prefix in peer.allowed_ips}
        self._sets = HaSets(found, self._former)
        self._situation.switches.set(self._former)
        self.step()

    async def run(self) -> None:
        """Until cancelled. Nothing delays a decision: it is made in the turn in which its reason is known."""
        while True:
            end_if_cancelled()
            self._watch.catch_up()
            self.step()
            dues = self._sets.next_deadline(), self._handover.next_deadline
            due = min((at for at in dues if at is not None), default=None)
            await self._watch.wait(None if due is None else max(0.0, due - time.monotonic()))

    def step(self) -> None:
        """Take what changed, and say what follows."""
        situation, sets = self._situation, self._sets
        decided = sets.update(self._known(), time.monotonic(), time.time())
        self._hand_over()
        waiting = self._handover.waiting
        switches = self._moves.update(decided, waiting, time.time())
        sets.carry_still(frozenset(self._handover.carriers[key].peer_id for key in waiting))
        if sets.decisions is not situation.decisions.value:
            situation.decisions.set(sets.decisions)
        if sets.rankings is not situation.rankings.value:
            situation.rankings.set(sets.rankings)
        if sets.probed is not situation.probed.value:
            situation.probed.set(sets.probed)
        if switches:
            situation.switches.set((*situation.switches.value, *switches)[-KEPT:])
            for one in switches:
                _tell(one)

    def _hand_over(self) -> None:
        """Say who carries each set now."""
        situation = self._situation
        self._handover.update(
            situation.documents.value or Documents(),
            self._sets.decisions,
            situation.released.value,
            situation.tunnels.value.connected,
            situation.health.value,
            time.monotonic(),
        )
        if self._handover.carriers is not situation.carriers.value:
            situation.carriers.set(self._handover.carriers)

    def _known(self) -> Known:
        situation = self._situation
        passed = situation.passed.value
        return Known(
            documents=situation.documents.value or Documents(),
            selection=situation.choices.value,
            skipped=passed.desired.skipped,
            connected=situation.tunnels.value.connected,
            health=situation.health.value,
            is_open=situation.bus.value.standing == "connected",
            carried=passed.desired.routing_peers,
        )

    def _count(self, state: str) -> int:
        rankings = self._situation.rankings.value.values()
        return sum(one.state == state for ranking in rankings for one in ranking.candidates)


def _tell(one: Switch) -> None:
    _switches.labels(one.cause).inc()
    log.info(
        "another routing peer" if one.now else "no routing peer",
        network=one.network_id,
        where=one.where,
        former=one.former_name,
        now=one.now_name,
        reason=one.reason,
    )
