"""Tells the control plane at once what this routing peer cannot carry, what it holds, and that it is about to stop."""

import asyncio
import time

from msgspec.structs import replace

from services.agent.cells import Watch
from services.agent.ports import Publish
from services.agent.situation import Situation
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.documents import Withdrawn
from shared.events.facts import CandidacyFact
from shared.tasks import end_if_cancelled

APART_S = 0.1


def candidacy(situation: Situation, peer_id: str, epoch: int) -> CandidacyFact:
    """What the host says of itself, without number and time."""
    return CandidacyFact(
        peer_id=peer_id,
        epoch=epoch,
        number=0,
        draining=situation.draining.value,
        withdrawn=tuple(sorted(Withdrawn(*one) for one in situation.withdrawn.value.items())),
        holds=tuple(sorted(situation.held.value)),
    )


class CandidacyReporter:
    """Publishes what changed at once and the newest of more each 100 ms, and all of it once in each session of the bus.

    A host that serves nothing has nothing to say, unless it said something in this session. What was not yet looked at
    is not spoken of: the fact would take back what the last run said. epoch: of this run, as in its beats.
    """

    def __init__(self, situation: Situation, publish: Publish, account: str, peer_id: str, epoch: int) -> None:
        self._situation = situation
        self._publish = publish
        self._subject = subjects.candidacy_fact(account, peer_id)
        self._peer_id = peer_id
        self._epoch = epoch
        self._number = 0
        self._sent: CandidacyFact | None = None
        self._sent_in = 0
        self._watch = Watch(situation.carried, situation.withdrawn, situation.held, situation.draining, situation.bus)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait()
            session = self._situation.bus.value.sessions
            if session != self._sent_in:
                self._sent = None
            said = candidacy(self._situation, self._peer_id, self._epoch)
            if said == self._sent or not (self._situation.carried.value or self._sent):
                continue
            self._number += 1
            sent = await self._publish(self._subject, encode(replace(said, number=self._number, at=time.time())))
            self._sent, self._sent_in = (said if sent else None), session
            await asyncio.sleep(APART_S)
