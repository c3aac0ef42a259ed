"""What others changed in the kernel, gathered until somebody asks."""

import asyncio

from services.agent.core.reconcile.steps import Kind
from services.agent.ports import HostChange, Notifications


class Monitor:
    """`async for dirty in monitor`: what may be different since the last time, as soon as there is anything.

    Notifications that come in between are gathered: however many, they are one answer. It begins to listen when it is
    made, inside a running event loop.
    """

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self._dirty: frozenset[Kind | HostChange] = frozenset()
        self._anything = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for descriptor in notifications.filenos():
            self._loop.add_reader(descriptor, self._take)

    def __aiter__(self) -> "Monitor":
        return self

    async def __anext__(self) -> frozenset[Kind | HostChange]:
        await self._anything.wait()
        self._anything.clear()
        dirty, self._dirty = self._dirty, frozenset()
        return dirty

    def close(self) -> None:
        """Stop listening."""
        for descriptor in self._notifications.filenos():
            self._loop.remove_reader(descriptor)
        self._notifications.close()

    def _take(self) -> None:
        dirty = self._notifications.read()
        if dirty:
            self._dirty |= dirty
            self._anything.set()
