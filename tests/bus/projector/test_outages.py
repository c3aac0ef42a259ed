"""The audit trail tells that a gateway has gone and is back, once, whichever replica tells it."""

import time

from services.management.core.model.commit import Commit
from services.management.ids import new_id
from services.management.log import Log
from services.management.outages import OutageTeller
from shared.bus.streams import LOG
from shared.events import subjects
from shared.events.documents import Withdrawn
from shared.events.facts import CandidacyFact
from tests.builders import ACCOUNT, group, peer, policy, route
from tests.bus.projector.conftest import NewReplica, Plane
from tests.bus.projector.replica import Replica
from tests.support.bus import eventually

OFFICE = (group("gateways"), peer("gw", "gateways"), peer("gw2", "gateways"), policy("default"))
LAN = route("lan", peer_groups=("gateways",))


class Teller(OutageTeller):
    """A replica's, which takes every second for an hour."""

    def __init__(self, replica: Replica) -> None:
        log = Log(replica.connection, replica.readmodel, lambda: None)
        began = time.monotonic()
        super().__init__(
            replica.readmodel,
            replica.last_words.of,
            lambda: replica.projector.owner,
            log.commit,
            new_id,
            clock=lambda: began + 3600 * (time.monotonic() - began),
        )
        replica.projector.on_presence = self.look


async def test_each_change_is_told_once_by_whoever_owns_the_feed(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, LAN)
    first = await new_replica()
    tellers = [Teller(first)]

    async def told(code: str, gateway: str) -> bool:
        for teller in tellers:
            await teller.tell()
        newest = await plane.bus.last(LOG, subjects.log(ACCOUNT), Commit)
        return newest is not None and [(a.code, a.target_id) for a in newest.activities] == [(code, gateway)]

    for gateway in ("gw", "gw2"):
        await plane.session(gateway, connected=True)
    await plane.candidacy("gw", CandidacyFact(peer_id="gw", epoch=1, number=1, withdrawn=(Withdrawn("lan", "no leg"),)))
    await eventually(lambda: told("routing.peer.gone", "gw"))
    entries = await plane.bus.values_ever(LOG)
    second = await new_replica()
    tellers.append(Teller(second))
    await first.stop()
    await eventually(lambda: second.projector.owner)
    await plane.session("gw2", connected=False)
    await eventually(lambda: told("routing.peer.gone", "gw2"))
    assert await plane.bus.values_ever(LOG) == entries + 1, "gw2 and nothing else"
    await plane.candidacy("gw", CandidacyFact(peer_id="gw", epoch=1, number=2))
    await eventually(lambda: told("routing.peer.return", "gw"))
    assert await plane.bus.values_ever(LOG) == entries + 2
