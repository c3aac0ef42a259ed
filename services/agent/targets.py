"""Asks the probe targets of the routes that this host serves, on its own leg: what the kernel cannot tell (G3)."""

import time

from services.agent.cells import Watch
from services.agent.core.ha.leading import leading
from services.agent.core.ha.probing import Targets
from services.agent.core.ha.targets import Verdicts, targets, until_known
from services.agent.ports import Asking
from services.agent.situation import PassResult, Situation
from shared.tasks import end_if_cancelled


class ProbeTargets:
    """Keeps `targets` true. Questions never go into the tunnel: they carry CONTROL_MARK."""

    def __init__(self, situation: Situation, asking: Asking) -> None:
        self._situation = situation
        self._asking = asking
        self._passed: PassResult | None = None
        self._targets: Targets = {}
        self._verdicts = Verdicts()
        self._watch = Watch(situation.passed)

    async def run(self) -> None:
        """Until cancelled."""
        self._asking.open(self._watch.wake)
        try:
            while True:
                end_if_cancelled()
                self._watch.catch_up()
                next_at = self.step()
                await self._watch.wait(None if next_at is None else max(0.0, next_at - time.monotonic()))
        finally:
            self._asking.close()

    def step(self) -> float | None:
        """Ask who is due, and judge; the monotonic second of the next step."""
        self._look_at_routes()
        asked_at = self._asking.ask(until_known(self._targets, self._situation.targets.value))
        verdicts = self._verdicts.judge(self._asking.health, time.monotonic())
        if verdicts != self._situation.targets.value:
            self._situation.targets.set(verdicts)
        return min((at for at in (asked_at, self._verdicts.next_at()) if at is not None), default=None)

    def _look_at_routes(self) -> None:
        former, passed = self._passed, self._situation.passed.value
        self._passed = passed
        if former and former.documents is passed.documents and former.desired.served == passed.desired.served:
            return
        routes = leading(passed.documents, passed.desired.served, ipv6=passed.local.ipv6)
        self._targets = targets(one.probe for one in routes if one.probe is not None)
