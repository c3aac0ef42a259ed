"""A route is switched off while a group is first named, which rewrites a document for each member and viewer.

One replica's read model and projector run in this process over a real nats-server. Measured: how long the route's
withdrawal takes to be heard, how fast the documents are stored, and how long the event loop was held at most.
References in the same run: the same route switched off with nothing else to do, and documents written by hand, a fence
on each and as many as a thousand under way.
`python -m tests.bench.feed_rewrite [PEERS MEMBERS VIEWERS]` prints it.
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.management.core.entities import Entity
from services.management.projector.facts import Facts
from services.management.projector.keeper import Dial
from services.management.projector.lastwords import LastWords
from services.management.projector.projector import Projector
from services.management.readmodel.readmodel import ReadModel
from services.management.troubles import Troubles
from shared.bus.codec import decode, encode
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import FEED, ensure_streams
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage, Tombstone
from tests import builders
from tests.bench.figures import Figure, figure
from tests.builders import ACCOUNT, group, peer, policy, route, rule

PEERS, MEMBERS, VIEWERS = 5_000, 2_500, 24
AT_REST = 10
BY_HAND = 3_000
UNDER_WAY = 1_000
LIMIT_S = 600.0
TICK_S = 0.001


class Listener:
    """Hears the routes of the live feed, and when the one called "lan" is withdrawn or comes back."""

    def __init__(self) -> None:
        self._waiting: dict[bool, asyncio.Future[float]] = {}

    async def heard(self, message: Msg) -> None:
        now = time.perf_counter()
        if message.subject.endswith(".g.office.route.lan"):
            there = not isinstance(decode(message.subject, message.data, FeedMessage).document, Tombstone)
            waiting = self._waiting.pop(there, None)
            if waiting:
                waiting.set_result(now)

    def expect(self, there: bool) -> asyncio.Future[float]:
        self._waiting[there] = asyncio.get_running_loop().create_future()
        return self._waiting[there]


class Loop:
    """Notices how long the event loop was held, in seconds of this thread's CPU: other processes do not count."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


def measure(peers: int = PEERS, members: int = MEMBERS, viewers: int = VIEWERS) -> list[Figure]:
    gc.freeze()  # as process.run does
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as directory:
        return uvloop.run(_measure(Path(directory), peers, members, viewers))


async def _measure(directory: Path, peers: int, members: int, viewers: int) -> list[Figure]:
    keys = credentials(directory / "keys")
    server = NatsServer(directory / "bus", keys)
    await server.start()
    dial = partial(connect, server.url, keys.management, "management")
    own, writer = await dial(), await dial()
    reader = await connect(server.url, keys.resolver, "resolver")
    listener = Listener()
    try:
        await ensure_streams(own.jetstream())
        await reader.subscribe(subjects.LIVE_FEED_ROUTES, cb=listener.heard)
        async with _replica(directory, own, dial):
            found = await _figures(writer.jetstream(), listener, peers, members, viewers)
        # After it, for a projector takes what is in the feed for its own.
        return [*found, await _by_hand(writer)]
    finally:
        for connection in (own, writer, reader):
            await connection.close()
        await server.stop()


@asynccontextmanager
async def _replica(directory: Path, own: Client, dial: Dial) -> AsyncIterator[None]:
    readmodel = ReadModel(own, directory / "readmodel.sqlite", Undecodables(), Troubles())
    await readmodel.open()
    tasks = [asyncio.create_task(work()) for work in (readmodel.follow, readmodel.save)]
    await readmodel.catch_up()
    last_words = LastWords(readmodel, Undecodables())
    facts = Facts(readmodel, Undecodables())
    tasks.append(asyncio.create_task(Projector(own, dial, readmodel, Undecodables(), last_words, facts).run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await readmodel.close()


async def _figures(
    jetstream: JetStreamContext, listener: Listener, peers: int, members: int, viewers: int
) -> list[Figure]:
    crowd = [
        peer(f"p{number}", "office", *(("crowd",) if number < members else ()), address_v4=_address(number))
        for number in range(peers)
    ]
    await _commit(jetstream, builders.account(), builders.group_all(), group("office"), group("crowd"))
    await _commit(jetstream, *crowd)
    await _commit(jetstream, *viewed_by(viewers), _lan(enabled=True))
    await _reaches(jetstream, peers * (1 + viewers))
    at_rest = [await _switched_off(jetstream, listener) * 1000 for _ in range(AT_REST)]
    gc.collect()
    loop = Loop()
    watching = asyncio.create_task(loop.watch())
    before, begin = await _last(jetstream), time.perf_counter()
    names = policy("crowd", rule("crowd", sources=("crowd",), destinations=("viewer0",)))
    await _commit(jetstream, names)
    await _reaches(jetstream, before + 100)
    amid = await _switched_off(jetstream, listener) * 1000
    await _reaches(jetstream, before + members * viewers)
    took = time.perf_counter() - begin
    watching.cancel()
    return [
        figure(f"{peers} peers, {members * viewers} documents: a route switched off meanwhile", "ms", [amid], "≤ 100"),
        figure("reference: the same at rest", "ms", at_rest),
        figure("documents stored a second", "1/s", [members * viewers / took], "as many as the server takes"),
        figure("longest hold of the event loop", "ms", [loop.longest * 1000], "≤ 10"),
    ]


def viewed_by(number: int) -> list[Entity]:
    """So many groups, each of which sees every peer of the group "office"."""
    names = [f"viewer{one}" for one in range(number)]
    return [
        *map(group, names),
        *(policy(name, rule(f"rule-{name}", sources=(name,), destinations=("office",))) for name in names),
    ]


def _address(number: int) -> str:
    return f"100.64.{number // 250}.{number % 250 + 1}"


def _lan(*, enabled: bool) -> Entity:
    return route("lan", peer="p0", groups=("office",), enabled=enabled)


async def _commit(jetstream: JetStreamContext, *entities: Entity) -> None:
    await jetstream.publish(subjects.log(ACCOUNT), encode(builders.commit(*entities)))


async def _switched_off(jetstream: JetStreamContext, listener: Listener) -> float:
    """Seconds until everybody hears of it; it is switched on again afterwards."""
    withdrawn, begin = listener.expect(False), time.perf_counter()
    await _commit(jetstream, _lan(enabled=False))
    took = await asyncio.wait_for(withdrawn, LIMIT_S) - begin
    again = listener.expect(True)
    await _commit(jetstream, _lan(enabled=True))
    await asyncio.wait_for(again, LIMIT_S)
    return took


async def _last(jetstream: JetStreamContext) -> int:
    return (await jetstream.stream_info(FEED)).state.last_seq


async def _reaches(jetstream: JetStreamContext, sequence: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await _last(jetstream) < sequence:
            await asyncio.sleep(0.02)


async def _by_hand(writer: Client) -> Figure:
    """Documents a second when each is fenced, as many as a thousand under way."""
    fence = (await writer.jetstream().publish(subjects.FEED_OWNER, b"")).seq
    headers = {
        "Nats-Expected-Last-Subject-Sequence": str(fence),
        "Nats-Expected-Last-Subject-Sequence-Subject": subjects.FEED_OWNER,
    }
    data = encode(FeedMessage(1, Tombstone()))
    inbox, room = writer.new_inbox(), asyncio.Semaphore(UNDER_WAY)

    async def answered(_message: Msg) -> None:
        room.release()

    subscription = await writer.subscribe(inbox, cb=answered)
    begin = time.perf_counter()
    for number in range(BY_HAND):
        await room.acquire()
        key = subjects.FeedKey(ACCOUNT, "g.reference", "peer", f"p{number}")
        await writer.publish(subjects.feed(key), data, reply=inbox, headers=headers)
    for _ in range(UNDER_WAY):
        await room.acquire()
    took = time.perf_counter() - begin
    await subscription.unsubscribe()
    return figure("reference: stored a second, each with its own fence", "1/s", [BY_HAND / took])


if __name__ == "__main__":
    for one in measure(*map(int, sys.argv[1:])):
        print(f"{one.name}: p50 {one.p50:.1f}, most {one.most:.1f} {one.unit}")
