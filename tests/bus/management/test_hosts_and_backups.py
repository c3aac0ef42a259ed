"""Hosts that go on running while their bus is moved, restored from a backup, or found to be damaged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.agent.bus import standing
from services.agent.bus.dial import Dialer
from services.agent.bus.enrolment import enrol
from services.agent.bus.feed import Feed
from services.agent.bus.outbox import Outbox
from services.agent.bus.session import Peer
from services.agent.cells import Cell
from services.agent.core.documents import Documents, FeedView
from services.agent.core.reconcile.desired import Local
from services.agent.situation import Situation
from services.management import upkeep
from shared.bus.connection import connect
from shared.bus.embedded.server import NatsServer
from shared.bus.keys import new_seed, public_key
from shared.bus.streams import FEED, LOG
from shared.bus.undecodable import Undecodables
from shared.events.signals import EnrolRequest, PeerMeta
from tests.bus.agent.plane import new_key
from tests.bus.management.plane import PlainBus
from tests.bus.management.test_beginning import is_well, management
from tests.bus.management.test_upkeep import EmptyCluster, beside, content, log_in, says
from tests.support.bus import Bus, eventually
from tests.support.cluster import READY_WITHIN_S, SERVERS
from tests.support.damage import break_off

BANISHED_AFTER_S = 1.0


class EmptyBus(PlainBus):
    """A server that holds nothing yet."""

    async def start(self) -> None:
        await self.server.start()
        self.management = await connect(self.url, self.keys.management, "management")
        self._clients.append(self.management)

    async def move(self, port: int) -> None:
        """Stop, and go on at another port."""
        await self.server.stop()
        self.server = NatsServer(self._directory, self.keys, port=port)
        await self.server.start()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


class Shown(Cell[Documents | None]):
    """least: the fewest peers that a host ever acted upon."""

    def __init__(self) -> None:
        super().__init__(None)
        self.least = 0

    def set(self, value: Documents | None) -> None:
        self.least = min(self.least, len(value.peers) if value else 0)
        super().set(value)


class RunningHost:
    """An enrolled host: its feed, and the names of the peers that it knows."""

    def __init__(self, urls: str, seed: str, peer: Peer) -> None:
        self.view = FeedView()
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.situation.documents = self.shown = Shown()
        self.feed = Feed(
            self.situation,
            Dialer(urls),
            peer,
            seed,
            self.view,
            Outbox(),
            lambda key, sealed: None,
            lambda subject, data: None,
            Undecodables(),
            banished_after_s=BANISHED_AFTER_S,
        )

    @property
    def sessions(self) -> int:
        return self.situation.bus.value.sessions

    @property
    def problem(self) -> str:
        return self.situation.bus.value.problem

    @property
    def banished(self) -> bool:
        return self.situation.bus.value.standing == "refused"

    @property
    def documents(self) -> Documents:
        """What the host acts upon."""
        return self.shown.value or Documents()

    @property
    def peers(self) -> set[str]:
        return {peer.name for peer in self.documents.peers.values()}

    def knows(self, names: Iterable[str]) -> bool:
        return self.peers == set(names) and self.documents.self_doc is not None


@contextlib.asynccontextmanager
async def host(urls: str, setup_key: str, name: str) -> AsyncIterator[RunningHost]:
    seed = new_seed("user")
    enrolled = await enrol(Dialer(urls), setup_key, asks(seed, name))
    host = RunningHost(urls, seed, Peer(enrolled.account, enrolled.peer_id))
    running = asyncio.create_task(host.feed.run())
    try:
        yield host
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def asks(seed: str, name: str) -> EnrolRequest:
    return EnrolRequest(wireguard_key=new_key(), bus_key=public_key(seed), meta=PeerMeta(hostname=name))


async def add_peers(bus: Bus, setup_key: str, names: Iterable[str]) -> None:
    for name in names:
        await enrol(Dialer(bus.url), setup_key, asks(new_seed("user"), name))


async def stored(bus: Bus) -> dict[str, int]:
    """Subject → sequence of what stands in FEED."""
    return {subject: sequence for sequence, subject, _, _ in (await content(bus))[FEED]}


async def delete_peer(client: httpx.AsyncClient, name: str) -> None:
    [peer] = [one for one in (await client.get("/api/peers")).json() if one["name"] == name]
    assert (await client.delete(f"/api/peers/{peer['id']}")).status_code == 200


async def new_setup_key(client: httpx.AsyncClient, token_file: Path) -> str:
    await eventually(lambda: is_well(client), within_s=60)
    log_in(client, token_file)
    body: dict[str, Any] = {"name": "k", "type": "reusable", "expires_in": 86400, "auto_groups": [], "usage_limit": 0}
    answer = await client.post("/api/setup-keys", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["key"])


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[EmptyBus]:
    bus = EmptyBus(tmp_path / "first")
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[EmptyBus]:
    bus = EmptyBus(tmp_path / "second")
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EmptyCluster]:
    cluster = EmptyCluster(tmp_path / "three")
    await cluster.start()
    yield cluster
    await cluster.stop()


async def test_hosts_see_what_an_older_backup_holds_though_the_feed_has_grown_past_where_they_were(
    first: EmptyBus, second: EmptyBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.agent.core.feed.audience.WITHDRAW_AFTER_S", 2.0)
    token = tmp_path / "one/admin.token"
    async with contextlib.AsyncExitStack() as stack:
        async with management(first, tmp_path / "one") as client:
            key = await new_setup_key(client, token)
            me = await stack.enter_async_context(host(first.url, key, "me"))
            await add_peers(first, key, ("early-1", "early-2"))
            await eventually(lambda: me.knows(("early-1", "early-2")))
            await upkeep.back_up(beside(first), tmp_path / "backup", print)
            await add_peers(first, key, ("late-1", "late-2", "late-3"))
            await delete_peer(client, "early-1")
            await eventually(lambda: me.knows(("early-2", "late-1", "late-2", "late-3")))
            read_up_to = await first.values_ever(FEED)
        await first.server.stop()
        await upkeep.restore(beside(second), tmp_path / "backup", print)
        new = {f"new-{number}" for number in range(12)}
        async with management(second, tmp_path / "two") as client:
            await eventually(lambda: is_well(client), within_s=60)
            await add_peers(second, key, new)

            async def grown() -> bool:
                return await second.values_ever(FEED) > read_up_to + len(new)

            await eventually(grown)
        await second.move(first.port)
        async with management(second, tmp_path / "two") as client:
            await eventually(lambda: me.knows({"early-1", "early-2", *new}), within_s=60)
            assert not me.banished


async def test_a_host_goes_on_through_a_move_to_a_cluster(
    first: EmptyBus, cluster: EmptyCluster, tmp_path: Path
) -> None:
    token = tmp_path / "one/admin.token"
    async with contextlib.AsyncExitStack() as stack:
        async with management(first, tmp_path / "one") as client:
            key = await new_setup_key(client, token)
            me = await stack.enter_async_context(host(f"{first.url},{cluster.url}", key, "me"))
            await add_peers(first, key, ("a", "b"))
            await eventually(lambda: me.knows("ab"))
        await upkeep.back_up(beside(first), tmp_path / "backup", print)
        await first.server.stop()
        me.shown.least = len(me.peers)
        await upkeep.restore(beside(cluster, SERVERS), tmp_path / "backup", print)
        await eventually(cluster.whole, within_s=READY_WITHIN_S)
        async with management(cluster, tmp_path / "three-replica") as client:
            await eventually(lambda: is_well(client), within_s=60)
            await add_peers(cluster, key, ("c",))
            await eventually(lambda: me.knows("abc"), within_s=60)
            assert me.shown.least == 2, "nothing that it knew was gone for a moment"
            assert not me.banished


async def test_hosts_go_on_with_what_they_know_while_nobody_has_decided_about_a_short_log(
    first: EmptyBus, tmp_path: Path
) -> None:
    token = tmp_path / "one/admin.token"
    async with contextlib.AsyncExitStack() as stack:
        async with management(first, tmp_path / "one") as client:
            key = await new_setup_key(client, token)
            me = await stack.enter_async_context(host(first.url, key, "me"))
            names = [f"peer-{number}" for number in range(6)]
            await add_peers(first, key, names)
            await eventually(lambda: me.knows(names))
        await break_off(first, LOG)
        async with management(first, tmp_path / "one") as client:
            await eventually(lambda: says(client, "unavailable", "before: "), within_s=60)
            await eventually(lambda: me.problem == standing.NOBODY, within_s=60)
            await asyncio.sleep(3 * BANISHED_AFTER_S)
            assert me.problem == standing.NOBODY
            assert not me.banished
            assert me.knows(names)
            await upkeep.accept_loss(beside(first), print)
            await eventually(lambda: is_well(client), within_s=60)
            left = {peer["name"] for peer in (await client.get("/api/peers", headers=_token(token))).json()}
            if "me" in left:
                await eventually(lambda: me.knows(left - {"me"}), within_s=60)


def _token(file: Path) -> dict[str, str]:
    return {"Authorization": f"Token {file.read_text().strip()}"}


async def test_what_a_damaged_feed_lost_is_written_again_and_no_host_lacks_it_meanwhile(
    first: EmptyBus, tmp_path: Path
) -> None:
    async with management(first, tmp_path / "one") as client:
        key = await new_setup_key(client, tmp_path / "one/admin.token")
        async with host(first.url, key, "me") as me:
            names = [f"peer-{number}" for number in range(20)]
            await add_peers(first, key, names)
            await eventually(lambda: me.knows(names))
            me.shown.least = len(names)
            before = await stored(first)
            seen = me.sessions
            await break_off(first, FEED)
            await eventually(lambda: me.sessions > seen, within_s=60)
            await add_peers(first, key, ["later"])
            await eventually(lambda: me.knows((*names, "later")), within_s=60)

            async def written_again() -> bool:
                now = await stored(first)
                return now.keys() >= before.keys() and any(now[subject] != at for subject, at in before.items())

            await eventually(written_again)
            audiences = me.feed._reading._audiences.values()
            for audience in [one for one in audiences if one.doubted_until is not None]:
                audience.doubted_until = 0.0  # as if the time had come
            await eventually(lambda: all(one.doubted_until is None for one in audiences), within_s=60)
            assert me.knows((*names, "later"))
            assert me.shown.least == len(names)
