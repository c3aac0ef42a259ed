"""Keeps the last switches on disk, off the hot path: people ask for them after a restart as well."""

import asyncio

from services.agent.cells import Watch
from services.agent.core.ha.standing import Switch
from services.agent.ports import Kept
from services.agent.situation import Situation
from shared.bus.patience import Trouble
from shared.tasks import end_if_cancelled

DEBOUNCE_S = 0.1
"""Between two times: many sets go from a routing peer at once, and a gateway that flaps is waited for."""


class SwitchKeeper:
    """Writes them some time after one came. A disk that takes nothing is tried again with the next one."""

    def __init__(self, situation: Situation, file: Kept[tuple[Switch, ...]]) -> None:
        self._situation = situation
        self._file = file
        self._trouble = Trouble("switches between routing peers are not kept on disk", "switches are kept again")
        self._watch = Watch(situation.switches)

    async def run(self) -> None:
        """Until cancelled; `keep` then writes what is still to be written."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            await asyncio.sleep(DEBOUNCE_S)
            self._watch.catch_up()
            await asyncio.to_thread(self.keep)

    def keep(self) -> None:
        """Write now."""
        try:
            self._file.keep(self._situation.switches.value)
            self._trouble.over()
        except OSError as problem:
            self._trouble.tell(problem)
