"""What others changed in the kernel, gathered until somebody asks."""

import asyncio

from services.agent.ports import Disturbed, Notifications


class Monitor:
    """`async for parts in monitor`: what may be different since the last time, as soon as there is anything.

    Notifications that come in between are gathered: however many, they are one answer. It begins to listen when it is
    made, inside a running event loop.
    """

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self._disturbed: frozenset[Disturbed] = frozenset()
        self._anything = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for descriptor in notifications.filenos():
            self._loop.add_reader(descriptor, self._take)

    def __aiter__(self) -> "Monitor":
        return self

    async def __anext__(self) -> frozenset[Disturbed]:
        await self._anything.wait()
        self._anything.clear()
        disturbed, self._disturbed = self._disturbed, frozenset()
        return disturbed

    def close(self) -> None:
        """Stop listening."""
        for descriptor in self._notifications.filenos():
            self._loop.remove_reader(descriptor)
        self._notifications.close()

    def _take(self) -> None:
        disturbed = self._notifications.read()
        if disturbed:
            self._disturbed |= disturbed
            self._anything.set()
