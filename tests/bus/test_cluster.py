"""Three servers, two replicas of management and a host at each server: any server may be killed."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import nats.errors
import pytest
import pytest_asyncio
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.agent.bus import catchup
from services.agent.bus.dial import Dialer
from services.agent.bus.enrolment import enrol
from services.agent.bus.feed import Feed
from services.agent.bus.outbox import Outbox
from services.agent.bus.session import Peer
from services.agent.core.documents import FeedView
from services.agent.core.feed import reading as reading_module
from services.agent.core.reconcile.desired import Local
from services.agent.ports import Login
from services.agent.situation import Situation
from services.management import troubles as troubles_module
from services.management.core.model.commit import Commit
from services.management.core.model.policy import Policy
from services.resolver import wiring as resolver
from services.resolver.settings import Settings as ResolverSettings
from services.signal import wiring as signals
from services.signal.settings import Settings as SignalSettings
from shared.bus.codec import decode, encode
from shared.bus.keys import new_seed, public_key
from shared.bus.streams import FACTS, FEED, LOG
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.signals import Beat, Enrolled
from tests import builders
from tests.bus.api.test_replicas import get, post, replica
from tests.bus.management.replica import whole_log
from tests.support.bus import eventually
from tests.support.cluster import SERVERS, Cluster

LEADERS = (LOG, FEED, "projector") if "WHIMBREL_TEST_LONG" in os.environ else (LOG,)
"""Whose servers are killed, one after the other."""

ELECTED_WITHIN_S = 40.0
"""nats-server calls an election 4 to 9 s after it last heard of a leader, and another one when a busy machine made the
first fail."""
TAKEOVER_S = 5.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Host:
    """One peer's feed, read as the agent reads it. Its first address is that of one server."""

    def __init__(self, urls: list[str], name: str) -> None:
        self.dial = Dialer(",".join(urls))
        self.seed = new_seed("user")
        self.view = FeedView()
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.outbox = Outbox()
        self.feed: Feed
        self.me: Enrolled
        self._request = replace(builders.enrol_request(name), bus_key=public_key(self.seed))

    async def join(self, key: str) -> "asyncio.Task[None]":
        self.me = await enrol(self.dial, key, self._request)
        me = Peer(self.me.account, self.me.peer_id)
        undecodables = Undecodables()
        self.feed = Feed(
            self.situation,
            self.dial,
            me,
            self.seed,
            self.view,
            self.outbox,
            lambda key, sealed: None,
            lambda subject, data: None,
            undecodables,
        )
        return asyncio.create_task(self.feed.run())

    @property
    def sessions(self) -> int:
        return self.situation.bus.value.sessions

    async def raw(self) -> Client:
        """Another connection of the same peer."""
        return await self.dial(Login(name="raw", inbox=self.me.peer_id, seed=self.seed))

    @property
    def server(self) -> str:
        """The address of the server it is at."""
        connection = self.outbox.connection
        assert connection is not None
        assert connection.connected_url is not None
        return connection.connected_url.geturl()

    @property
    def policies(self) -> set[str]:
        return {rule.policy_id for rule in self.view.documents().rules.values()}


class System:
    """api: a client for each replica of management."""

    def __init__(self, bus: Cluster, api: list[httpx.AsyncClient]) -> None:
        self.bus = bus
        self.api = api
        self.hosts: list[Host] = []
        self.accepted: list[str] = []
        self.led: set[str] = set()
        """What the servers led that were killed so far."""

    async def change(self, client: httpx.AsyncClient) -> str | None:
        """The id of a new policy; None when there was no answer, or others won every race."""
        everybody = {"sources": [self.everybody], "destinations": [self.everybody]}
        rule = {"name": "r", "enabled": True, "action": "accept", "protocol": "all", "bidirectional": True, **everybody}
        answer = await client.post("/api/policies", json={"name": "p", "enabled": True, "rules": [rule]})
        assert answer.status_code in (200, 409, 503), answer.text
        if answer.status_code != 200:
            return None
        self.accepted.append(answer.json()["id"])
        return self.accepted[-1]

    everybody = ""

    def complete(self) -> bool:
        """Whether each host sees every other one."""
        return all(len(host.view.documents().peers) == SERVERS - 1 for host in self.hosts)

    def shown(self, policies: set[str]) -> bool:
        return all(policies <= host.policies for host in self.hosts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("cluster")
    bus = Cluster(folder)
    await bus.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.stop)
        # Neither replica is told how many copies there are: they keep what they find.
        api = [await stack.enter_async_context(replica(bus, folder / name, folder / "token")) for name in ("a", "b")]
        tasks = [
            asyncio.create_task(signals.run(SignalSettings(bus=bus.url, credentials=bus.seeds / "signal.nk"))),
            asyncio.create_task(resolver.run(ResolverSettings(bus=bus.url, credentials=bus.seeds / "resolver.nk"))),
        ]
        stack.push_async_callback(end, tasks)
        system = System(bus, api)
        [group] = await get(api[0], "groups")
        system.everybody = group["id"]
        made = await post(api[0], "setup-keys", name="k", type="reusable", expires_in=86400, auto_groups=[])
        for number, url in enumerate(bus.urls):
            others = [each for each in bus.urls if each != url]
            system.hosts.append(Host([url, *others], f"host-{number}"))
            tasks.append(await system.hosts[-1].join(made["key"]))
        await eventually(system.complete, within_s=30)
        yield system


async def end(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_every_stream_keeps_its_copies_when_a_replica_was_not_told_how_many(system: System) -> None:
    for stream in (LOG, FACTS, FEED):
        info = await system.bus.management.jetstream().stream_info(stream)
        assert info.config.num_replicas == SERVERS


async def test_a_change_reaches_the_hosts_of_every_server(system: System) -> None:
    for client in system.api:
        policy = await system.change(client)
        assert policy
        await eventually(lambda policy=policy: system.shown({policy}))  # type: ignore[misc]


async def test_a_heartbeat_at_any_server_is_a_session(system: System) -> None:
    async def connected() -> bool:
        for host in system.hosts:  # again each time, as agents do: a host without a session yet sends nothing
            me = host.me.peer_id
            await host.outbox.publish(subjects.beat(host.me.account, me), encode(Beat(peer_id=me, epoch=1)))
        peers = [peer for client in system.api for peer in await get(client, "peers")]
        return all(peer["connected"] for peer in peers)

    await eventually(connected)


async def test_a_deleted_peer_loses_its_connection_whichever_server_it_is_at(system: System) -> None:
    made = await post(system.api[0], "setup-keys", name="g", type="reusable", expires_in=86400, auto_groups=[])
    for number, url in enumerate(system.bus.urls):
        guest = Host([url], f"guest-{number}")
        task = await guest.join(made["key"])
        try:
            await eventually(lambda guest=guest: guest.situation.bus.value.standing == "connected")  # type: ignore[misc]
            raw = await guest.raw()
            answer = await system.api[1].delete(f"/api/peers/{guest.me.peer_id}")
            assert answer.status_code == 200, answer.text
            await eventually(lambda raw=raw: raw.is_closed)  # type: ignore[misc]
        finally:
            await end([task])


async def test_what_a_leader_swallowed_is_read_after_the_election(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its live copies are withheld from a host, as if the server had died before it sent them."""
    monkeypatch.setattr(reading_module, "CHECK_AFTER_ELECTION_S", 1.0)
    leader = await system.bus.leader(FEED)
    host = next(host for host in system.hosts if host.server != system.bus.servers[leader].url)
    monkeypatch.setattr(host.feed._incoming, "_beacon", lambda *_: None)
    policy = await unheard(system, host)
    server = system.bus.servers[leader]
    await server.stop()  # in good order: another server leads at once
    await eventually(lambda: policy in host.policies, within_s=20)
    await server.start()
    await eventually(system.bus.whole, within_s=ELECTED_WITHIN_S)


async def test_what_was_written_while_a_subscription_spread_is_read_within_seconds(system: System) -> None:
    """Live copies pass a host by, as if the other servers did not know of it yet.

    On a busy machine the first beacons pass it by as well, and the next comes half a minute after them.
    """
    for host in system.hosts:
        policy = await unheard(system, host)
        await eventually(lambda host=host, policy=policy: policy in host.policies, within_s=60)  # type: ignore[misc]


async def unheard(system: System, host: Host) -> str:
    """A new policy that every host shows, and whose live copies this one did not get."""
    others = [other for other in system.hosts if other is not host]
    while True:
        session = await eventually(lambda: host.outbox.session, within_s=30)
        async with passed_by(host) as missed:
            policy = await eventually(lambda: system.change(system.api[0]), within_s=30)
            await eventually(lambda: all(policy in other.policies for other in others))  # noqa: B023 - awaited here
            await eventually(lambda: missed or host.outbox.session is not session)  # noqa: B023 - awaited here
        if host.outbox.session is session:  # else a new one has read everything: nothing is shown by that
            return str(policy)


@contextlib.asynccontextmanager
async def passed_by(host: Host) -> AsyncIterator[list[Msg]]:
    """Within the block nothing live reaches the host; gives what would have."""
    missed: list[Msg] = []

    async def swallow(message: Msg) -> None:
        missed.append(message)

    session = host.outbox.session
    assert session is not None
    live = host.feed._incoming.live
    connection: Any = session._connection
    subscriptions = [each for each in connection._subs.values() if each._cb == live]
    for subscription in subscriptions:
        subscription._cb = swallow
    try:
        yield missed
    finally:
        for subscription in subscriptions:
            subscription._cb = live


@pytest.mark.parametrize("led", LEADERS)
async def test_after_a_kill_of_the_leader_all_goes_on_and_every_accepted_change_is_there_once(
    system: System, led: str
) -> None:
    bus = system.bus
    if led in system.led:
        pytest.skip("its leader was killed as the leader of something else")
    name = await eventually(lambda: bus.leader(LOG, led) if led == "projector" else bus.leader(led))
    for role, leader in ((LOG, bus.leader(LOG)), (FEED, bus.leader(FEED)), ("projector", bus.leader(LOG, "projector"))):
        if await leader == name:
            system.led.add(role)
    stop = asyncio.Event()

    async def write(client: httpx.AsyncClient) -> None:
        while not stop.is_set():
            await system.change(client)

    writing = [asyncio.create_task(write(client)) for client in system.api]
    before = len(system.accepted)
    await eventually(lambda: len(system.accepted) > before + 10)
    async with bus.without(name):
        await eventually(has_leaders(bus), within_s=ELECTED_WITHIN_S)
        elected_at = time.monotonic()
        before = len(system.accepted)
        await eventually(lambda: len(system.accepted) > before + 10, within_s=20)
        wrote_after = time.monotonic() - elected_at
        accepted = set(system.accepted)
        await eventually(lambda: system.shown(accepted), within_s=20)
        print(f"after the election: changes {wrote_after:.1f} s, all hosts {time.monotonic() - elected_at:.1f} s")
    stop.set()
    await asyncio.gather(*writing)
    await eventually(lambda: system.shown(set(system.accepted)))
    commits = [decode(LOG, data, Commit) for data in await whole_log(bus)]
    written = Counter(entity.id for commit in commits for entity in commit.upserts if isinstance(entity, Policy))
    assert set(system.accepted) <= set(written)
    assert set(written.values()) == {1}


def has_leaders(bus: Cluster) -> Any:
    async def look() -> bool:
        return bool(await bus.leader(LOG) and await bus.leader(FEED) and await bus.leader(LOG, "projector"))

    return look


async def test_a_reading_is_done_again_when_the_server_of_its_consumer_is_dead(system: System) -> None:
    [host, *_] = system.hosts
    account, peer = host.me.account, host.me.peer_id
    audience = subjects.peer_audience(peer)
    raw = await host.raw()
    try:
        at = dict(zip(system.bus.urls, system.bus.servers, strict=True))
        assert raw.connected_url is not None
        mine = at[raw.connected_url.geturl()]
        while True:
            await catchup._make(raw, account, peer, audience, 0)
            name = await system.bus.leader(FEED, subjects.catch_up_consumer(peer, audience))
            if name not in (mine, await system.bus.leader(FEED)):
                break
            await catchup._give_up(raw, peer, audience)
        async with system.bus.without(name):
            await eventually(has_leaders(system.bus), within_s=ELECTED_WITHIN_S)

            async def read() -> int:
                with contextlib.suppress(TimeoutError, nats.errors.Error):
                    return await catchup.read(raw, account, peer, audience, 0, lambda *_: None)
                return 0

            assert await eventually(read, within_s=15)
    finally:
        await raw.close()


async def test_without_a_majority_of_servers_reads_go_on_and_changes_are_refused_with_the_reason(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the cluster: two of three servers are stopped at once."""
    monkeypatch.setattr(troubles_module, "PATIENCE_S", 1.0)
    [client, *_] = system.api
    leader = await eventually(lambda: system.bus.leader(LOG))
    stopped = [server for name, server in system.bus.servers.items() if name != leader]

    async def health() -> tuple[int, int]:
        return tuple([(await client.get(path)).status_code for path in ("/healthz", "/readyz")])  # type: ignore[return-value]

    async def well() -> bool:  # a test before this one may have left an election
        return await health() == (200, 200)

    await eventually(well, within_s=40)
    await asyncio.gather(*(server.stop() for server in stopped))

    async def reads_only() -> bool:  # an election in between makes it well again for a moment
        said = (await client.get("/healthz")).json()
        return said["status"] == "read-only" and await health() == (503, 200)

    await eventually(reads_only, within_s=40)

    async def refused() -> Any:
        answer = await client.post("/api/groups", json={"name": "refused"})
        assert answer.status_code == 503
        return "more than half" in answer.json()["message"]

    await eventually(refused, within_s=40)
    assert await get(client, "policies")
    await asyncio.gather(*(server.start() for server in stopped))

    async def changes() -> Any:
        return (await client.post("/api/groups", json={"name": "taken"})).status_code == 200

    await eventually(changes, within_s=120)
    await eventually(well, within_s=40)
