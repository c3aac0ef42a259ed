"""Tells the control plane what this host runs and how far it is: on change, at most once a second."""

import asyncio
import time
from collections.abc import Callable

from msgspec.structs import replace

from services.agent.ports import Publish
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.facts import ReportFact

APART_S = 1.0


class Reporter:
    """Publishes what `compose` gives, without its time, whenever it differs from what was sent."""

    def __init__(self, account: str, peer_id: str, publish: Publish, compose: Callable[[], ReportFact]) -> None:
        self._subject = subjects.report_fact(account, peer_id)
        self._publish = publish
        self._compose = compose
        self._sent: ReportFact | None = None
        self._wake = asyncio.Event()

    def changed(self) -> None:
        self._wake.set()

    def again(self) -> None:
        """The bus may not have the last one."""
        self._sent = None
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            report = self._compose()
            if report != self._sent:
                sent = await self._publish(self._subject, encode(replace(report, at=time.time())))
                self._sent = report if sent else None
                await asyncio.sleep(APART_S)
