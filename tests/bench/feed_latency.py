"""From a commit's publication to the feed message, without an API: the projector's share, with 10, 100 and 1,000 peers.

One replica's read model and projector run in this process over a real nats-server; the change is a route's metric.
Reference in the same run: one document written to FEED by hand, from publish to the same subscriber.
`python -m tests.bench.feed_latency` prints it.
"""

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

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
from shared.bus.streams import ensure_streams
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage, RouteDoc
from tests import builders
from tests.bench.figures import Figure, figure
from tests.builders import ACCOUNT, group, peer, policy, route

SIZES = (10, 100, 1_000)
CHANGES = 200
LIMIT_S = 10.0


class Listener:
    """Hears the routes of the live feed and remembers when a metric was first heard for clients."""

    def __init__(self) -> None:
        self._wanted: dict[int, asyncio.Future[float]] = {}

    async def heard(self, message: Msg) -> None:
        now = time.perf_counter()
        document = decode(message.subject, message.data, FeedMessage).document
        if isinstance(document, RouteDoc) and document.permits is None:
            waiting = self._wanted.pop(document.metric, None)
            if waiting:
                waiting.set_result(now)

    def expect(self, metric: int) -> asyncio.Future[float]:
        self._wanted[metric] = asyncio.get_running_loop().create_future()
        return self._wanted[metric]


def measure(sizes: tuple[int, ...] = SIZES, changes: int = CHANGES) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as directory:
        return uvloop.run(_measure(Path(directory), sizes, changes))


def run() -> dict[str, dict[str, Any]]:
    """The figures by name: p50, p95, p99 and most in milliseconds."""
    return {
        one.name: {"p50": one.p50, "p95": one.p95, "p99": one.p99, "most": one.most, "unit": one.unit}
        for one in measure()
    }


async def _measure(directory: Path, sizes: tuple[int, ...], changes: int) -> list[Figure]:
    keys = credentials(directory / "keys")
    server = NatsServer(directory / "bus", keys)
    await server.start()
    dial = partial(connect, server.url, keys.management, "management")
    own, writer = await dial(), await dial()
    reader = await connect(server.url, keys.resolver, "resolver")
    try:
        await ensure_streams(own.jetstream())
        return await _with_replica(directory, own, dial, writer, reader, sizes, changes)
    finally:
        for connection in (own, writer, reader):
            await connection.close()
        await server.stop()


async def _with_replica(
    directory: Path,
    own: Client,
    dial: Dial,
    writer: Client,
    reader: Client,
    sizes: tuple[int, ...],
    changes: int,
) -> list[Figure]:
    readmodel = ReadModel(own, directory / "readmodel.sqlite", Undecodables(), Troubles())
    await readmodel.open()
    tasks = [asyncio.create_task(work()) for work in (readmodel.follow, readmodel.save)]
    await readmodel.catch_up()
    last_words = LastWords(readmodel, Undecodables())
    tasks.append(
        asyncio.create_task(
            Projector(own, dial, readmodel, Undecodables(), last_words, Facts(readmodel, Undecodables())).run()
        )
    )
    listener = Listener()
    await reader.subscribe(subjects.LIVE_FEED_ROUTES, cb=listener.heard)
    try:
        return await _sizes(writer, listener, sizes, changes)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await readmodel.close()


async def _sizes(writer: Client, listener: Listener, sizes: tuple[int, ...], changes: int) -> list[Figure]:
    log = subjects.log(ACCOUNT)
    jetstream = writer.jetstream()
    found = builders.commit(builders.account(), builders.group_all(), group("office"), policy("default"))
    await jetstream.publish(log, encode(found))
    figures, metric, there = [], 1, 0
    for size in sizes:
        crowd = [peer(f"p{number}", "office") for number in range(there, size)]
        there = size
        await _change(jetstream, log, listener, metric, *crowd)
        metric += 1
        took, cpu = [], time.process_time()
        for _ in range(changes):
            took.append(await _change(jetstream, log, listener, metric) * 1000)
            metric += 1
        spent = (time.process_time() - cpu) * 1000 / changes
        figures.append(figure(f"{size} peers: commit published → feed message", "ms", took, "≈ 2"))
        figures.append(
            figure(f"{size} peers: CPU per change of replica, writer and reader", "ms", [spent], "same for all")
        )
    figures.append(await _reference(writer, listener, changes))
    return figures


async def _change(jetstream: Any, log: str, listener: Listener, metric: int, *more: Any) -> float:
    heard = listener.expect(metric)
    lan = route("lan", peer="p0", groups=("office",), metric=metric)
    begin = time.perf_counter()
    await jetstream.publish(log, encode(builders.commit(*more, lan)))
    return await asyncio.wait_for(heard, LIMIT_S) - begin


async def _reference(writer: Client, listener: Listener, changes: int) -> Figure:
    took = []
    key = subjects.feed(subjects.FeedKey(ACCOUNT, "g.office", "route", "reference"))
    for number in range(changes):
        heard = listener.expect(-1 - number)
        document = RouteDoc(
            route_id="reference",
            network_id="reference",
            network="10.0.0.0/8",
            domains=(),
            metric=-1 - number,
            masquerade=False,
            keep_route=False,
            skip_auto_apply=False,
            routing_peers=(),
            distribution=(),
            permits=None,
        )
        begin = time.perf_counter()
        await writer.publish(key, encode(FeedMessage(0, document)))
        took.append((await asyncio.wait_for(heard, LIMIT_S) - begin) * 1000)
    return figure("reference: one message published → heard, by hand", "ms", took)


if __name__ == "__main__":
    for name, values in run().items():
        print(name, {key: round(value, 2) if isinstance(value, float) else value for key, value in values.items()})
