"""A large feed and large changes: read in parts, written in batches, and overtaken by what is small."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.management.core.entities import Entity, ref
from services.management.core.feed.pending import FEW as FEW_UNITS
from services.management.core.state import Change
from services.management.projector.projector import CONSUMER
from services.management.projector.snapshot import BATCH, FeedReader
from services.management.projector.succession import Claim
from services.management.projector.writer import FEW, FeedWrite, FencedWriter, Superseded
from shared.bus.pinned import PIN_TIMEOUT_S
from shared.bus.streams import FEED, LOG
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage, Tombstone
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT, group, peer, policy, route, rule
from tests.bus.projector.conftest import NewReplica, Plane
from tests.bus.projector.test_takeover import process
from tests.support.bus import Bus, eventually
from tests.unit.management_feed.test_published import PEER

MEMBERS = 3 * FEW_UNITS
VIEWERS = 8
TAKEOVER_S = 10.0


def lan(*, enabled: bool = True, metric: int = 1) -> Entity:
    return route("lan", peer="p0", groups=("office",), enabled=enabled, metric=metric)


def office() -> list[Entity]:
    """Everybody is seen by all viewers; the group crowd is there, and nothing names it."""
    viewers = [f"viewer{number}" for number in range(VIEWERS)]
    seen = [policy(name, rule(name, sources=(name,), destinations=("office",))) for name in viewers]
    crowd = [peer(f"p{number}", "office", "crowd") for number in range(MEMBERS)]
    return [group("office"), group("crowd"), *map(group, viewers), *seen, *crowd, lan()]


def names_crowd(name: str = "crowd") -> Entity:
    """What rewrites a document for each member and viewer when it comes first."""
    return policy(name, rule(name, sources=("crowd",), destinations=("viewer0",)))


def strays(number: int, size: int, revision: int = 1) -> list[FeedWrite]:
    """Documents of nobody, of about that many bytes each."""
    document = replace(PEER, name="x" * size)
    keys = (FeedKey(ACCOUNT, "g.office", "peer", f"stray{count}") for count in range(number))
    return [(key, FeedMessage(revision, document)) for key in keys]


def writer(plane: Plane) -> FencedWriter:
    return FencedWriter(plane.bus.management, lambda _key, _sequence: None)


class LateWord:
    """A connection on which the word that a batch is completed arrives when the next one is asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: list[Msg] = []
        self._arrived: Callable[[Msg], Awaitable[None]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]], **limits: Any) -> Subscription:
        async def arrived(message: Msg) -> None:
            if message.reply:
                await cb(message)
            else:
                self._held.append(message)

        self._arrived = cb
        return await self._client.subscribe(subject, cb=arrived, **limits)

    async def publish(self, subject: str, payload: bytes, *, reply: str) -> None:
        held, self._held = self._held, []
        for message in held:
            await self._arrived(message)
        await self._client.publish(subject, payload, reply=reply)


async def test_what_the_server_says_of_one_batch_does_not_end_the_next(plane: Plane) -> None:
    """That a batch is completed comes after its last message, when the next one may be asked for already."""
    feed, documents = writer(plane), 20 * BATCH
    claimed = await feed.claim(Claim())
    await feed.write(strays(documents, 100))
    late: Any = LateWord(plane.bus.management)
    found = await FeedReader(late, Undecodables(), lambda _key, _sequence: None).read(claimed)
    assert found.documents == documents


@pytest.mark.parametrize("impatient_bus", [2 * 1024**2], indirect=True)
async def test_a_feed_larger_than_the_bus_keeps_for_a_client_is_taken_over(impatient_bus: Bus, tmp_path: Path) -> None:
    plane = Plane(impatient_bus)
    await plane.found(*office())
    large = strays(6_000, 4_000)
    earlier = writer(plane)
    await earlier.claim(Claim())
    for start in range(0, len(large), 200):
        await earlier.write(large[start : start + 200])
    async with process(plane, tmp_path / "process", right=False):
        last = subjects.feed(large[-1][0])

        async def withdrawn() -> bool:
            message = await plane.bus.last(FEED, last, FeedMessage)
            return bool(message and isinstance(message.document, Tombstone))

        await eventually(withdrawn, within_s=60)
        assert await plane.claimed() == len(large) + 2  # one claim was enough


@pytest.mark.parametrize("change", [lan(enabled=False), lan(metric=7)], ids=["switched off", "changed"])
async def test_a_small_change_overtakes_a_large_one(plane: Plane, new_replica: NewReplica, change: Entity) -> None:
    await plane.found(*office())
    replica = await new_replica()
    await plane.becomes_right()
    await replica.lag()
    large = await plane.commit(names_crowd())
    small = await plane.commit(change)
    await replica.catch_up()
    await plane.becomes_right(within_s=30)
    messages = await plane.in_order()
    (overtaking,) = [
        place
        for place, (key, message) in enumerate(messages)
        if (key.kind, key.id, key.audience) == ("route", "lan", "g.office") and message.revision == small
    ]
    rewritten = [
        place for place, (key, message) in enumerate(messages) if key.kind == "peer" and message.revision >= large
    ]
    assert len(rewritten) == MEMBERS * VIEWERS
    assert sum(place > overtaking for place in rewritten) > MEMBERS


async def test_a_large_change_goes_on_while_small_ones_never_cease(plane: Plane, new_replica: NewReplica) -> None:
    """It may withdraw something from many."""
    await plane.found(*office())
    replica = await new_replica()
    await plane.becomes_right()

    async def small_changes() -> None:
        while True:
            entity = lan()
            replica.projector.folded(ACCOUNT, replica.readmodel.sequence, [Change(ref(entity), entity, entity)])
            await asyncio.sleep(0)

    storm = asyncio.create_task(small_changes())
    try:
        await plane.commit(names_crowd())
        await plane.becomes_right(within_s=30)
    finally:
        storm.cancel()


async def test_a_batch_is_stored_whole_and_told_of_in_order(plane: Plane) -> None:
    told: list[tuple[str, int]] = []
    owner = FencedWriter(plane.bus.management, lambda key, sequence: told.append((key.id, sequence)))
    claim = await owner.claim(Claim())
    writes = strays(2_500, 10)
    await owner.write(writes)
    assert [key for key, _ in await plane.in_order()] == [key for key, _ in writes]
    assert told == [(key.id, claim + place) for place, (key, _) in enumerate(writes, 1)]


async def test_nothing_of_a_batch_under_an_older_claim_is_stored_or_heard(plane: Plane) -> None:
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    listener = await plane.bus.service("resolver")
    await listener.subscribe(subjects.LIVE_FEED_ROUTES, cb=hear)
    old, new = writer(plane), writer(plane)
    await old.claim(Claim())
    await new.claim(Claim())
    routes = [(FeedKey(ACCOUNT, "g.a", "route", f"r{n}"), FeedMessage(9, Tombstone())) for n in range(FEW + 1)]
    with pytest.raises(Superseded):
        await old.write(routes)
    assert await plane.stored() == {}
    await new.write([(FeedKey(ACCOUNT, "g.a", "route", "new"), FeedMessage(1, Tombstone()))])
    await eventually(lambda: heard)
    assert heard == [f"live.feed.{ACCOUNT}.g.a.route.new"]


async def test_a_claim_amid_a_batch_refuses_all_of_it(plane: Plane) -> None:
    """The server compares the fence of the first message when it has the last one."""
    bus, old = plane.bus.management, writer(plane)
    claim = await old.claim(Claim())
    fence = {
        "Nats-Expected-Last-Subject-Sequence": str(claim),
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.FEED_OWNER,
    }
    batch = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"}
    subject = subjects.feed(FeedKey(ACCOUNT, "g.a", "peer", "x"))
    staged = await bus.request(subject, b"first", headers=batch | fence)
    assert staged.data == b""
    await writer(plane).claim(Claim())
    commit = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
    refused = await bus.request(subject, b"last", headers=commit)
    assert b'"err_code":10071' in refused.data
    assert await plane.stored() == {}


async def test_after_a_kill_amid_a_large_change_another_process_goes_on(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*office())
    async with process(plane, tmp_path / "process") as owner:
        standby = await new_replica()
        before = await plane.bus.values_ever(FEED)
        await plane.commit(names_crowd())
        await eventually(lambda: grows(plane, before))
        owner.kill()
        await plane.commit(lan(enabled=False))
        await eventually(lambda: standby.projector.owner, within_s=TAKEOVER_S)
        await plane.becomes_right(within_s=30)


async def test_after_a_kill_of_the_bus_amid_a_large_change_the_feed_becomes_right(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*office())
    await new_replica()
    await plane.becomes_right()
    before = await plane.bus.values_ever(FEED)
    await plane.commit(names_crowd())
    await eventually(lambda: grows(plane, before))
    plane.bus.server.kill()
    await plane.bus.restart()
    await eventually(lambda: plane.bus.management.is_connected)
    await plane.becomes_right(within_s=40)


async def asks_too(plane: Plane) -> bool:
    """Whether more than one replica asks for the pin."""
    return bool(((await plane.bus.management.jetstream().consumer_info(LOG, CONSUMER)).num_waiting or 0) > 1)


async def grows(plane: Plane, before: int) -> bool:
    return await plane.bus.values_ever(FEED) > before


async def test_an_owner_that_computes_for_long_keeps_the_pin(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*office())
    owner = await new_replica()
    await plane.becomes_right()
    claimed = await plane.claimed()
    async with process(plane, tmp_path / "process"):
        await eventually(lambda: asks_too(plane))
        until = time.monotonic() + 2 * PIN_TIMEOUT_S
        while time.monotonic() < until:  # what holds the event loop
            pass
        await plane.commit(lan(enabled=False))
        await plane.becomes_right()
        assert owner.projector.owner
        assert await plane.claimed() == claimed
