"""Tells the control plane what this host runs and how far it is: on change, at most once a second."""

import asyncio
import time
from collections.abc import Callable

from msgspec.structs import replace

from services.agent.core.show.status import route_states
from services.agent.ports import Passed, Publish
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.facts import SHORT, ReportFact
from shared.events.signals import PeerMeta
from shared.tasks import end_if_cancelled

APART_S = 1.0


def report(passed: Passed, meta: PeerMeta, peer_id: str, backend: str, desired_revision: int) -> ReportFact:
    """What the host says of itself, without the time. desired_revision: newest LOG sequence among what it holds."""
    refused = {key: error for (kind, key), error in passed.errors.items() if kind == "route"}
    return ReportFact(
        peer_id=peer_id,
        version=meta.version[:SHORT],
        hostname=meta.hostname[:SHORT],
        os=meta.os[:SHORT],
        kernel=meta.kernel_version[:SHORT],
        backend=backend,
        desired_revision=desired_revision,
        applied_revision=passed.applied_revision,
        pending=len(passed.pending),
        routes=route_states(passed.documents, passed.shown, refused),
    )


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
            end_if_cancelled()
            await self._wake.wait()
            self._wake.clear()
            report = self._compose()
            if report != self._sent:
                sent = await self._publish(self._subject, encode(replace(report, at=time.time())))
                self._sent = report if sent else None
                await asyncio.sleep(APART_S)
