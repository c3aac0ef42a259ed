"""Hears what others change in the kernel."""

import asyncio

from services.agent.cells import counted
from services.agent.ports import Notifications
from services.agent.situation import Situation


class Monitor:
    """Counts in `dirty` what may be different, as soon as there is anything."""

    def __init__(self, situation: Situation, notifications: Notifications) -> None:
        self._dirty = situation.dirty
        self._notifications = notifications

    async def run(self) -> None:
        """Until cancelled; nothing is heard after that."""
        loop = asyncio.get_running_loop()
        descriptors = self._notifications.filenos()
        try:
            for descriptor in descriptors:
                loop.add_reader(descriptor, self._take)
            await asyncio.Event().wait()
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
            self._notifications.close()

    def _take(self) -> None:
        changed = self._notifications.read()
        if changed:
            self._dirty.set(counted(self._dirty.value, changed))
