"""Management's admission, enrolment and answers for leases on a real bus, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.management.admission.callout import Callout
from services.management.admission.floods import Floods
from services.management.admission.withdrawal import Withdrawal
from services.management.enrolment import Enrolment
from services.management.ids import new_id
from services.management.leases import Leases
from shared.bus.broker import over
from shared.bus.connection import connect
from shared.bus.keys import curve_key
from shared.bus.streams import ensure_streams
from shared.bus.undecodable import Undecodables
from tests.bus.management.replica import Replica, running
from tests.support.bus import Bus

GRACE_S = 0.4
SWEEP_EVERY_S = 1.0


class PlainBus(Bus):
    """A bus with streams, where nobody is admitted until management runs."""

    async def start(self) -> None:
        await self.server.start()
        self.management = await connect(self.url, self.keys.management, "management")
        self._clients.append(self.management)
        await ensure_streams(self.management.jetstream())


@asynccontextmanager
async def admitting(
    bus: Bus, file: Path, *, grace_s: float = GRACE_S, sweep_every_s: float = SWEEP_EVERY_S
) -> AsyncIterator[Replica]:
    """A replica that admits connections, enrols hosts and withdraws rights."""
    undecodables = Undecodables()
    async with running(bus, file) as replica:
        held = replica.readmodel
        system = await connect(bus.url, bus.keys.system, "system")
        floods, xkey = Floods(), curve_key(bus.keys.callout)
        broker = await over(replica.connection, undecodables)
        callout = Callout(held, bus.keys.issuer, xkey, floods)
        await Enrolment(held, replica.log.commit, new_id, callout.standing, undecodables).serve(broker)
        await callout.serve(broker)
        withdrawal = Withdrawal(system, held, floods, grace_s=grace_s, sweep_every_s=sweep_every_s)
        withdrawing = asyncio.create_task(withdrawal.run())
        try:
            yield replica
        finally:
            withdrawing.cancel()
            await asyncio.gather(withdrawing, return_exceptions=True)
            await system.close()


@asynccontextmanager
async def answering(replica: Replica) -> AsyncIterator[None]:
    """The replica answers for leases."""
    leases = Leases(replica.connection, replica.readmodel, Undecodables())
    following = asyncio.create_task(leases.follow())
    leave = await leases.serve(await over(replica.connection, Undecodables()))
    try:
        yield
    finally:
        await leave()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
