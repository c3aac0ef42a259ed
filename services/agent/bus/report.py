"""Tells the control plane what this host runs and how far it is: on change, at most once a second."""

import asyncio
import time

from msgspec.structs import replace

from services.agent.cells import Watch
from services.agent.core.show.status import route_states
from services.agent.ports import Publish
from services.agent.situation import Situation
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.facts import SHORT, ReportFact
from shared.events.signals import PeerMeta
from shared.tasks import end_if_cancelled

APART_S = 1.0


def report(situation: Situation, meta: PeerMeta, peer_id: str, backend: str) -> ReportFact:
    """What the host says of itself, without the time."""
    passed = situation.passed.value
    refused = {key: error for (kind, key), error in passed.errors.items() if kind == "route"}
    return ReportFact(
        peer_id=peer_id,
        version=meta.version[:SHORT],
        hostname=meta.hostname[:SHORT],
        os=meta.os[:SHORT],
        kernel=meta.kernel_version[:SHORT],
        backend=backend,
        desired_revision=situation.revision,
        applied_revision=passed.applied_revision,
        pending=len(passed.pending),
        routes=route_states(passed.documents, situation.shown, refused),
    )


class Reporter:
    """Publishes the report whenever it differs from what was sent, and once in each session of the bus.

    backend: what WireGuard is here, "kernel" or "wireguard-go".
    """

    def __init__(
        self, situation: Situation, publish: Publish, account: str, peer_id: str, meta: PeerMeta, backend: str
    ) -> None:
        self._situation = situation
        self._publish = publish
        self._subject = subjects.report_fact(account, peer_id)
        self._peer_id = peer_id
        self._meta = meta
        self._backend = backend
        self._sent: ReportFact | None = None
        self._sent_in = 0
        self._watch = Watch(situation.passed, situation.unfollowed, situation.withdrawn, situation.bus)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            session = self._situation.bus.value.sessions
            said = report(self._situation, self._meta, self._peer_id, self._backend)
            if said != self._sent or session != self._sent_in:
                sent = await self._publish(self._subject, encode(replace(said, at=time.time())))
                self._sent, self._sent_in = (said if sent else None), session
                await asyncio.sleep(APART_S)
