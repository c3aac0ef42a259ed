"""From a commit to the last of many agents, and what management spends on it, with 10, 100 and 1,000 agents.

The agents are the bus side of real ones: each enrols with a setup key, connects with its own nkey through auth callout
and subscribes to its audiences. They share this process and one core with each other. Reference in the same run: one
document written to FEED by hand for the same connections.
"""

import asyncio
import base64
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import nats
import psutil
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.codec import decode, encode
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.keys import new_seed, public_key
from shared.events import subjects
from shared.events.documents import FeedMessage, RouteDoc, Tombstone
from shared.events.signals import Enrolled, EnrolReply, EnrolRequest, PeerMeta
from tests.bench.figures import Figure, figure
from tests.support.controlplane import ControlPlane

SIZES = (10, 100, 1_000)
CHANGES = 100
LIMIT_S = 30.0
IDLE_S = 5.0
ENROL_AT_ONCE = 16


class Fleet:
    """Simulated agents that count how often each of them was told of the newest change."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.clients: list[Client] = []
        self.seeds: list[str] = []
        self.account = ""
        self.peers: list[str] = []
        self._wanted = -1
        self._missing = 0
        self._done = asyncio.Event()

    async def grow(self, size: int, setup_key: str, audiences: list[str]) -> None:
        """Enrol and connect until there are `size` agents."""
        gate = asyncio.Semaphore(ENROL_AT_ONCE)

        async def one(number: int) -> None:
            async with gate:
                await self._add(number, setup_key, audiences)

        await asyncio.gather(*(one(n) for n in range(len(self.clients), size)))

    async def _add(self, number: int, setup_key: str, audiences: list[str]) -> None:
        seed = new_seed("user")
        key_hash = subjects.setup_key_hash(setup_key)
        enrolling = await nats.connect(
            self._url, user="enrol", password=setup_key, inbox_prefix=subjects.inbox(key_hash), allow_reconnect=False
        )
        request = EnrolRequest(
            wireguard_key=base64.b64encode(os.urandom(32)).decode(),
            bus_key=public_key(seed),
            meta=PeerMeta(hostname=f"agent-{number}", version="1.0.0"),
        )
        answer = await enrolling.request(subjects.enrol(key_hash), encode(request), timeout=LIMIT_S)
        await enrolling.close()
        reply: Any = decode(answer.subject, answer.data, EnrolReply)  # type: ignore[arg-type]
        assert isinstance(reply, Enrolled), reply
        self.account = reply.account
        client = await nats.connect(
            self._url, nkeys_seed_str=seed, inbox_prefix=subjects.inbox(reply.peer_id), allow_reconnect=False
        )
        for audience in (*audiences, subjects.peer_audience(reply.peer_id)):
            await client.subscribe(subjects.live_feed_of(reply.account, audience), cb=self._heard)
        self.peers.append(reply.peer_id)
        self.clients.append(client)

    async def _heard(self, message: Msg) -> None:
        if subjects.parse_beacon(message.subject) is not None:
            return
        document = decode(message.subject, message.data, FeedMessage).document
        if isinstance(document, RouteDoc) and document.permits is None and document.metric == self._wanted:
            self._missing -= 1
            if self._missing == 0:
                self._done.set()

    def expect(self, metric: int) -> None:
        self._wanted, self._missing = metric, len(self.clients)
        self._done.clear()

    async def told(self) -> float:
        """The moment the last agent had it."""
        await asyncio.wait_for(self._done.wait(), LIMIT_S)
        return time.perf_counter()

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))


def measure(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """A control plane and a fleet of their own; everything is ended."""
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as directory:
        return asyncio.run(_measure(Path(directory), sizes))


async def _measure(directory: Path, sizes: tuple[int, ...]) -> list[Figure]:
    async with ControlPlane(directory) as plane:
        fleet = Fleet(plane.bus_url)
        try:
            return await _grow_and_change(plane, fleet, sizes)
        finally:
            await fleet.close()


async def _grow_and_change(plane: ControlPlane, fleet: Fleet, sizes: tuple[int, ...]) -> list[Figure]:
    api = plane.api
    group = (await _json(api, "POST", "/groups", {"name": "fleet"}))["id"]
    everyone = next(g["id"] for g in await _json(api, "GET", "/groups") if g["name"] == "All")
    key = {"name": "fleet", "type": "reusable", "expires_in": 86400, "usage_limit": 0, "auto_groups": [group]}
    setup_key = (await _json(api, "POST", "/setup-keys", key))["key"]
    audiences = [subjects.group_audience(group), subjects.group_audience(everyone)]
    await fleet.grow(1, setup_key, audiences)
    route = {
        "description": "",
        "network_id": "bench",
        "network": "10.0.0.0/8",
        "peer": fleet.peers[0],
        "metric": 1,
        "masquerade": True,
        "enabled": True,
        "keep_route": False,
        "groups": [group],
    }
    route_id = (await _json(api, "POST", "/routes", route))["id"]
    figures: list[Figure] = []
    for round_, size in enumerate(sizes):
        await fleet.grow(size, setup_key, audiences)
        metrics = range(2 + round_ * CHANGES, 2 + (round_ + 1) * CHANGES)
        figures += await _change(plane, fleet, f"/routes/{route_id}", route, metrics)
        figures.append(await _reference(plane, fleet, audiences[0]))
    return figures


async def _change(plane: ControlPlane, fleet: Fleet, path: str, route: dict[str, Any], metrics: range) -> list[Figure]:
    management = psutil.Process(plane.pid_of("services.management"))
    idle = await _idle_share(management)
    reached = []
    before, began = sum(management.cpu_times()[:2]), time.perf_counter()
    for metric in metrics:
        fleet.expect(metric)
        begin = time.perf_counter()
        await _json(plane.api, "PUT", path, route | {"metric": metric})
        reached.append((await fleet.told() - begin) * 1000)
    agents = f"{len(fleet.clients)} agents"
    # A round takes longer with more agents; what management spends by the second is no part of a change.
    spent = sum(management.cpu_times()[:2]) - before - idle * (time.perf_counter() - began)
    mean = spent * 1000 / len(reached)
    return [
        figure(f"{agents}: API request → the last agent has the document", "ms", reached, "≤ 1000"),
        figure(f"{agents}: management's CPU per change, mean of {len(reached)}", "ms", [mean], "same for all"),
        figure(f"{agents}: management's CPU while nothing changes", "%", [idle * 100]),
    ]


async def _idle_share(management: psutil.Process) -> float:
    """CPU seconds per second while nothing changes."""
    before = sum(management.cpu_times()[:2])
    await asyncio.sleep(IDLE_S)
    return (sum(management.cpu_times()[:2]) - before) / IDLE_S


async def _reference(plane: ControlPlane, fleet: Fleet, audience: str) -> Figure:
    """The same document written to FEED by hand: the bus's own share, without an API, a log or a projector."""
    publisher = await connect(plane.bus_url, credentials(plane.data / "keys").management, "management")
    took = []
    key = subjects.FeedKey(fleet.account, audience, "route", "reference")
    try:
        for number in range(CHANGES):
            fleet.expect(-1 - number)
            begin = time.perf_counter()
            await publisher.publish(subjects.feed(key), encode(FeedMessage(0, _route(-1 - number))))
            took.append((await fleet.told() - begin) * 1000)
    finally:
        await publisher.publish(subjects.feed(key), encode(FeedMessage(0, Tombstone())))
        await publisher.close()
    return figure(f"reference: one message to {len(fleet.clients)} connections by hand", "ms", took)


def _route(metric: int) -> RouteDoc:
    return RouteDoc(
        route_id="reference",
        network_id="reference",
        network="10.0.0.0/8",
        domains=(),
        metric=metric,
        masquerade=False,
        keep_route=False,
        skip_auto_apply=False,
        routing_peers=(),
        distribution=(),
        permits=None,
    )


async def _json(api: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    answer = await api.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()
