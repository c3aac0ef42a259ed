"""What agents and signal say of routing peers becomes documents."""

from typing import Any

from services.management.core.feed.unit import LastWord
from shared.bus.streams import FACTS
from shared.events.documents import FeedMessage, PresenceDoc, Withdrawn
from shared.events.facts import CandidacyFact
from shared.events.subjects import FeedKey
from tests.builders import group, peer, policy, route
from tests.bus.projector.conftest import NewReplica, Plane
from tests.support.bus import eventually

OFFICE = (group("office"), peer("alice", "office"), peer("gw"), policy("default"))
LAN = route("lan", peer="gw", groups=("office",))
NO_LINK = (Withdrawn("lan", "no link"),)


def said(number: int = 1, **fields: Any) -> CandidacyFact:
    return CandidacyFact(peer_id="gw", epoch=1, number=number, **fields)


async def shows(plane: Plane, expected: PresenceDoc | None) -> None:
    async def shown() -> bool:
        return await plane.presence("gw") == expected

    await eventually(shown)


async def presences(plane: Plane) -> dict[FeedKey, FeedMessage]:
    """As they are stored."""
    return {key: message for key, message in (await plane.stored()).items() if key.kind == "presence"}


async def test_what_a_routing_peer_says_is_told_to_its_clients(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, LAN)
    await new_replica()
    await plane.session("gw", connected=True)
    await shows(plane, PresenceDoc(peer_id="gw", agent=True))
    await plane.candidacy("gw", said(withdrawn=NO_LINK, holds=("lan",)))
    await shows(plane, PresenceDoc(peer_id="gw", agent=True, withdrawn=NO_LINK, holds=("lan",)))
    await plane.commit(peer("gw", draining=True))
    await shows(plane, PresenceDoc(peer_id="gw", agent=True, draining=True, withdrawn=NO_LINK, holds=("lan",)))
    plane.last_words["gw"] = LastWord(agent=True, withdrawn=NO_LINK, holds=("lan",))
    await plane.becomes_right()


async def test_peers_that_serve_nothing_cost_no_document_however_often_they_connect(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*OFFICE, LAN)
    await new_replica()
    await plane.becomes_right()
    for epoch in (1, 2, 3):
        await plane.session("alice", connected=True, epoch=epoch)
    await plane.session("gw", connected=True)
    plane.last_words["gw"] = LastWord(agent=True)
    await plane.becomes_right()
    assert {key.id for key in await plane.stored() if key.kind == "presence"} == {"gw"}


async def test_a_peer_speaks_for_itself_alone(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, LAN)
    await new_replica()
    await plane.candidacy("alice", said(draining=True))
    await plane.session("gw", connected=True)
    plane.last_words["gw"] = LastWord(agent=True)
    await plane.becomes_right()


async def test_a_peer_that_begins_to_serve_is_shown_as_it_was_heard_before(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*OFFICE)
    await new_replica()
    await plane.session("gw", connected=True)
    await plane.candidacy("gw", said(withdrawn=NO_LINK))
    await plane.commit(LAN)
    await shows(plane, PresenceDoc(peer_id="gw", agent=True, withdrawn=NO_LINK))
    await plane.commit(route("lan", peer="gw", groups=("office",), enabled=False))
    await shows(plane, None)


async def test_a_successor_knows_what_was_said_and_keeps_it_where_the_facts_are_lost(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*OFFICE, LAN)
    replica = await new_replica()
    await plane.session("gw", connected=True)
    await plane.candidacy("gw", said(2, withdrawn=NO_LINK, holds=("lan",)))
    expected = PresenceDoc(peer_id="gw", agent=True, withdrawn=NO_LINK, holds=("lan",))
    await shows(plane, expected)
    plane.last_words["gw"] = LastWord(agent=True, withdrawn=NO_LINK, holds=("lan",))

    async def taken_over(before: int) -> bool:
        return await plane.claimed() > before

    for lost in (False, True):
        claimed = await plane.claimed()
        await replica.stop()
        if lost:
            await plane.bus.management.jetstream().purge_stream(FACTS)
        before = await presences(plane)
        replica = await new_replica()
        await eventually(lambda before=claimed: taken_over(before))  # type: ignore[misc]
        await plane.commit(group(f"later-{lost}"))
        await plane.becomes_right()
        assert await plane.presence("gw") == expected
        assert await presences(plane) == before, "not even written again"
    await plane.candidacy("gw", said(1))
    await shows(plane, PresenceDoc(peer_id="gw", agent=True))


async def test_an_older_word_never_replaces_a_newer_one(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, LAN)
    await new_replica()
    await plane.candidacy("gw", said(7, withdrawn=NO_LINK))
    await shows(plane, PresenceDoc(peer_id="gw", agent=True, withdrawn=NO_LINK))
    await plane.candidacy("gw", said(6))
    await plane.session("gw", connected=False)
    await shows(plane, PresenceDoc(peer_id="gw", agent=False, withdrawn=NO_LINK))
