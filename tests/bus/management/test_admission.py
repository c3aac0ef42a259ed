"""What the server lets a host do, tried with raw connections on the real bus."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats.errors
import nkeys
import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.management.admission import grants, withdrawal
from services.management.admission.grants import login_expires_at
from services.management.core.entities import Ref
from shared.bus.codec import decode, encode
from shared.bus.embedded.config import HOST_MAX_PAYLOAD, HOST_MAX_SUBSCRIPTIONS
from shared.bus.keys import new_seed
from shared.bus.streams import ABANDONED_AFTER_S, FACTS, FEED, LOG
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import Lease, LeaseReply, LeaseRequest
from tests import builders
from tests.bus.management.hosts import Host
from tests.bus.management.plane import PlainBus, admitting, answering
from tests.bus.management.replica import Replica, append
from tests.support.bus import LIMIT_S, eventually

ACCOUNT = builders.ACCOUNT
SETUP_KEY = "A1B2C3D4-0000-4000-8000-ABCDEFABCDEF"
HASH = subjects.setup_key_hash(SETUP_KEY)
OFFICE, SECRET = subjects.group_audience("office"), subjects.group_audience("secret")
ALICE, BOB = subjects.peer_audience("alice"), subjects.peer_audience("bob")


class Two:
    """alice is in the group office, bob in the group secret; each audience has one document."""

    replica: Replica

    def __init__(self, bus: PlainBus) -> None:
        self.bus = bus
        self.alice = Host(bus.url, "alice")
        self.bob = Host(bus.url, "bob")

    async def settle(self) -> None:
        peers = (
            replace(builders.peer("alice", "office"), bus_key=self.alice.bus_key),
            replace(builders.peer("bob", "secret"), bus_key=self.bob.bus_key),
        )
        await append(self.bus, builders.commit(builders.group("office"), builders.group("secret"), *peers))
        await append(self.bus, builders.commit(builders.setup_key("key", SETUP_KEY)))
        for audience in (OFFICE, SECRET, ALICE, BOB):
            key = subjects.FeedKey(ACCOUNT, audience, "peer", "somebody")
            await self.bus.management.jetstream().publish(subjects.feed(key), f"for {audience}".encode())


@pytest.fixture
async def two(plain_bus: PlainBus, tmp_path: Path) -> AsyncIterator[Two]:
    there = Two(plain_bus)
    await there.settle()
    async with admitting(plain_bus, tmp_path / "a.db") as there.replica:
        yield there
        for host in (there.alice, there.bob):
            if hasattr(host, "client"):
                await host.leave()


async def stored(bus: PlainBus) -> dict[str, int]:
    """How many messages each stream ever took, and how many it holds."""
    jetstream = bus.management.jetstream()
    states = {name: (await jetstream.stream_info(name)).state for name in (LOG, FACTS, FEED)}
    return {
        f"{name} {what}": getattr(state, what) for name, state in states.items() for what in ("last_seq", "messages")
    }


# What a peer may do.


async def test_a_peer_reads_what_its_audiences_may_see_stored_and_live(two: Two) -> None:
    alice = await two.alice.connect()
    for audience in (OFFICE, ALICE, subjects.group_audience(builders.ALL)):
        assert await alice.may_subscribe(subjects.live_feed_of(ACCOUNT, audience))
    for audience in (OFFICE, ALICE):
        assert (await alice.make_catch_up(ACCOUNT, audience))["num_pending"] == 1
        assert [message.data for message in await alice.pull(audience)] == [f"for {audience}".encode()]
        assert (await alice.ask(subjects.delete_catch_up("alice", audience)))["success"] is True
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await alice.client.subscribe(subjects.live_feed_of(ACCOUNT, OFFICE), cb=hear)
    assert await alice.may_publish(subjects.beat(ACCOUNT, "alice"))
    key = subjects.FeedKey(ACCOUNT, OFFICE, "peer", "somebody")
    await two.bus.management.jetstream().publish(subjects.feed(key), b"newer")
    [message] = await eventually(lambda: heard)
    assert (message.data, (message.headers or {})["Nats-Sequence"]) == (b"newer", "5")


async def test_a_peer_reports_and_signals_in_its_own_name(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    assert await alice.may_publish(subjects.report_fact(ACCOUNT, "alice"), b"a report")
    await eventually(lambda: two.bus.management.jetstream().get_last_msg(FACTS, subjects.report_fact(ACCOUNT, "alice")))
    assert await alice.may_publish(subjects.signal_from(ACCOUNT, "alice", "bob"))
    assert await alice.may_subscribe(subjects.signals_to(ACCOUNT, "alice"))
    assert await bob.may_subscribe(subjects.signals_to(ACCOUNT, "bob"))


# What it may not.

FORBIDDEN_TO_PUBLISH = {
    "the log": subjects.log(ACCOUNT),
    "a document": "feed.acc.g.office.peer.x",
    "a live document": "live.feed.acc.g.office.peer.x",
    "a beacon of its own group": subjects.beacon(ACCOUNT, OFFICE),
    "a beacon of another peer": subjects.beacon(ACCOUNT, BOB),
    "another peer's report": subjects.report_fact(ACCOUNT, "bob"),
    "its own session": subjects.session_fact(ACCOUNT, "alice"),
    "a resolution": subjects.resolution_fact(ACCOUNT, "lan"),
    "a lease": subjects.lease_fact(ACCOUNT, "x"),
    "what another peer resolved": subjects.resolved(ACCOUNT, "bob"),
    "what a peer of another account resolved": subjects.resolved("other", "alice"),
    "having another peer resolve": subjects.resolve(ACCOUNT, "bob"),
    "asking for a lease in another's name": subjects.lease(ACCOUNT, "bob"),
    "a signal in another's name": subjects.signal_from(ACCOUNT, "bob", "alice"),
    "a signal past the introducer": subjects.signal_to(ACCOUNT, "bob", "alice"),
    "a signal of another account": subjects.signal_from("other", "alice", "bob"),
    "another's heartbeat": subjects.beat(ACCOUNT, "bob"),
    "an enrolment": subjects.enrol(HASH),
    "another's inbox": f"{subjects.inbox('bob')}.reply",
    "deleting a stream": "$JS.API.STREAM.DELETE.FEED",
    "purging a stream": "$JS.API.STREAM.PURGE.LOG",
    "changing a stream": "$JS.API.STREAM.UPDATE.LOG",
    "making a stream": "$JS.API.STREAM.CREATE.OWN",
    "listing streams": "$JS.API.STREAM.NAMES",
    "reading a message": "$JS.API.STREAM.MSG.GET.FEED",
    "reading directly": "$JS.API.DIRECT.GET.FACTS",
    "making any consumer": "$JS.API.CONSUMER.CREATE.FEED.alice_g_office.feed.acc.g.office.>",
    "making a consumer on the log": f"{subjects.HOST_API}.CONSUMER.CREATE.LOG.alice_g_office.log.acc",
    "a consumer without a filter": f"{subjects.HOST_API}.CONSUMER.CREATE.FEED.alice_g_office",
    "a consumer with a foreign filter": f"{subjects.HOST_API}.CONSUMER.CREATE.FEED.alice_g_office.feed.acc.g.secret.>",
    "a consumer with a wider filter": f"{subjects.HOST_API}.CONSUMER.CREATE.FEED.alice_g_office.feed.acc.>",
    "a consumer in another's name": subjects.create_catch_up(ACCOUNT, "bob", SECRET),
    "a consumer of its own name for another audience": subjects.create_catch_up(ACCOUNT, "alice", SECRET),
    "pulling another's consumer": subjects.pull_catch_up("bob", SECRET),
    "deleting another's consumer": subjects.delete_catch_up("bob", SECRET),
    "the admission": subjects.AUTH_CALLOUT,
    "ending connections": "$SYS.REQ.SERVER.PING.CONNZ",
}

FORBIDDEN_TO_SUBSCRIBE = {
    "everything": ">",
    "the log": subjects.LOG_ALL,
    "facts": subjects.FACT_ALL,
    "every live document": subjects.LIVE_FEED_ALL,
    "another group's documents": subjects.live_feed_of(ACCOUNT, SECRET),
    "another peer's documents": subjects.live_feed_of(ACCOUNT, BOB),
    "another account's documents": subjects.live_feed_of("other", OFFICE),
    "documents as they are written": subjects.feed_of(ACCOUNT, OFFICE),
    "another's signals": subjects.signals_to(ACCOUNT, "bob"),
    "what others send": subjects.SIGNAL_FROM_ALL,
    "heartbeats": subjects.BEAT_ALL,
    "the resolver's documents": subjects.live_feed_of(ACCOUNT, subjects.RESOLVER_AUDIENCE),
    "what another peer is to resolve": subjects.resolve(ACCOUNT, "bob"),
    "what is to be resolved": subjects.RESOLVE_ALL,
    "what others resolved": subjects.RESOLVED_ALL,
    "what it resolved itself": subjects.resolved(ACCOUNT, "alice"),
    "enrolments": subjects.ENROL_ALL,
    "another's inbox": f"{subjects.inbox('bob')}.>",
    "every inbox": "_INBOX.>",
    "the admission": subjects.AUTH_CALLOUT,
    "the system's events": "$SYS.>",
}


async def test_the_server_refuses_a_peer_every_other_subject(two: Two) -> None:
    alice = await two.alice.connect()
    before = await stored(two.bus)
    published = [what for what, subject in FORBIDDEN_TO_PUBLISH.items() if await alice.may_publish(subject)]
    subscribed = [what for what, subject in FORBIDDEN_TO_SUBSCRIBE.items() if await alice.may_subscribe(subject)]
    in_queues = [what for what, subject in FORBIDDEN_TO_SUBSCRIBE.items() if await alice.may_subscribe(subject, "q")]
    assert (published, subscribed, in_queues) == ([], [], [])
    assert await stored(two.bus) == before


@pytest.mark.parametrize(
    "config",
    [
        {"filter_subject": "feed.acc.g.secret.>"},
        {"filter_subject": ""},
        {"filter_subject": "", "filter_subjects": ["feed.acc.g.office.>", "feed.acc.g.secret.>"]},
        {"name": "bob_g_secret", "durable_name": "bob_g_secret"},
    ],
)
async def test_the_server_refuses_a_consumer_that_is_not_what_its_subject_says(
    two: Two, config: dict[str, Any]
) -> None:
    alice = await two.alice.connect()
    answer = await alice.make_catch_up(ACCOUNT, OFFICE, **config)
    assert answer["error"]["code"] == 400
    assert [consumer.name for consumer in await two.bus.management.jetstream().consumers_info(FEED)] == []


@pytest.mark.parametrize(
    "config",
    [
        {"inactive_threshold": 10**18},
        {"inactive_threshold": 0},
        {"inactive_threshold": 0, "durable_name": "alice_g_office", "mem_storage": False},
    ],
)
async def test_no_consumer_of_a_host_outlives_it(two: Two, config: dict[str, Any]) -> None:
    """There is room for so many; one that a deleted peer left behind would stand there for ever."""
    alice = await two.alice.connect()
    await alice.make_catch_up(ACCOUNT, OFFICE, **config)
    jetstream = two.bus.management.jetstream()
    lifetimes = [consumer.config.inactive_threshold for consumer in await jetstream.consumers_info(FEED)]
    assert set(lifetimes) <= {ABANDONED_AFTER_S}


VICTIMS = [
    subjects.log(ACCOUNT),
    "feed.acc.g.secret.peer.somebody",
    "live.feed.acc.g.secret.peer.somebody",
    subjects.beacon(ACCOUNT, SECRET),
    subjects.report_fact(ACCOUNT, "bob"),
    subjects.beat(ACCOUNT, "bob"),
    subjects.enrol(HASH),
    "$JS.API.STREAM.PURGE.FEED",
    "hostapi.CONSUMER.DELETE.FEED.bob_g_secret",
]


@pytest.mark.parametrize("victim", VICTIMS)
async def test_what_the_bus_answers_cannot_be_sent_to_a_subject_that_the_asker_may_not_write(
    two: Two, victim: str
) -> None:
    """The bus answers to any subject the asker names: an acknowledgement, a document, a push consumer's deliveries."""
    alice, bob = await two.alice.connect(), await two.bob.connect()
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await bob.client.subscribe(subjects.live_feed_of(ACCOUNT, SECRET), cb=hear)
    assert (await bob.make_catch_up(ACCOUNT, SECRET))["num_pending"] == 1
    before = await stored(two.bus)

    await alice.make_catch_up(ACCOUNT, OFFICE)
    await alice.client.publish(subjects.pull_catch_up("alice", OFFICE), b'{"batch": 1}', reply=victim)
    await alice.client.publish(subjects.report_fact(ACCOUNT, "alice"), b"a report", reply=victim)
    await alice.client.publish(subjects.beat(ACCOUNT, "alice"), b"", headers={"Nats-Trace-Dest": victim})
    await alice.make_catch_up(ACCOUNT, ALICE, deliver_subject=victim)
    await alice.ask(subjects.delete_catch_up("alice", OFFICE))  # answered after all of the above
    await alice.client.publish(subjects.beat(ACCOUNT, "alice"))
    await asyncio.gather(alice.client.flush(), bob.client.flush())

    await eventually(lambda: two.bus.values_ever(FACTS))
    after = await stored(two.bus)
    assert after == {**before, "FACTS last_seq": 1, "FACTS messages": 1}
    assert [message.data for message in await bob.pull(SECRET)] == [f"for {SECRET}".encode()]
    assert [m for m in heard if "Nats-Sequence" in (m.headers or {})] == [], "nothing that passes for a document"


@pytest.mark.parametrize("victim", VICTIMS)
async def test_what_management_answers_cannot_be_sent_to_a_subject_that_the_asker_may_not_write(
    two: Two, victim: str
) -> None:
    """Management may write what hosts may not, and answers for leases to any subject the asker names."""
    alice, bob = await two.alice.connect(), await two.bob.connect()
    heard: list[Msg] = []
    heard_by_services: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    async def hear_as_service(message: Msg) -> None:
        heard_by_services.append(message)

    await bob.client.subscribe(subjects.live_feed_of(ACCOUNT, SECRET), cb=hear)
    signal = await two.bus.service("signal")
    await signal.subscribe(subjects.BEAT_ALL, cb=hear_as_service)
    await two.bus.management.subscribe(subjects.ENROL_ALL, cb=hear_as_service)
    await asyncio.gather(signal.flush(), two.bus.management.flush())
    assert (await bob.make_catch_up(ACCOUNT, SECRET))["num_pending"] == 1
    lan = builders.route("lan", peer="alice", return_address="10.0.0.254")
    await append(two.bus, builders.commit(lan))
    await eventually(lambda: "lan" in two.replica.account.routes)
    before = await stored(two.bus)
    question, watch = subjects.lease(ACCOUNT, "alice"), LeaseRequest(route_id="lan", wish="watch", known=-1)

    async with answering(two.replica):
        await alice.client.publish(question, encode(watch), reply=victim)
        last = await alice.client.request(question, encode(watch), timeout=LIMIT_S)  # answered after the one above
        assert decode("reply", last.data, LeaseReply) == Lease(number=0, holder="", candidates=("alice",))  # type: ignore[arg-type]
        await alice.client.publish(subjects.beat(ACCOUNT, "alice"), b"its own")
        await eventually(lambda: heard_by_services)
        await asyncio.gather(bob.client.flush(), two.bus.management.flush())

    assert await stored(two.bus) == before
    assert [message.data for message in await bob.pull(SECRET)] == [f"for {SECRET}".encode()]
    assert [m for m in heard if "Nats-Sequence" in (m.headers or {})] == [], "nothing that passes for a document"
    assert [(m.subject, m.data) for m in heard_by_services] == [("signal.acc.beat.alice", b"its own")]


@pytest.mark.parametrize("who", ["a peer", "somebody with any setup key"])
async def test_a_message_larger_than_a_host_needs_ends_its_connection(two: Two, who: str) -> None:
    host, subject = await _sender(two, who)
    await host.client.publish(subject, b"x" * HOST_MAX_PAYLOAD)
    await host.client.flush()
    assert host.client.is_connected
    await host.client.publish(subject, b"x" * (HOST_MAX_PAYLOAD + 1))
    await asyncio.wait_for(host.closed.wait(), 10)


@pytest.mark.parametrize("who", ["a peer", "somebody with any setup key"])
async def test_a_host_has_no_more_subscriptions_than_it_needs(two: Two, who: str) -> None:
    host, _ = await _sender(two, who)
    for number in range(HOST_MAX_SUBSCRIPTIONS):
        await host.client.subscribe(f"{subjects.inbox(host.name)}.{number}")
    await host.client.flush()
    assert host.client.is_connected
    await host.client.subscribe(f"{subjects.inbox(host.name)}.more")
    await asyncio.wait_for(host.closed.wait(), 10)
    assert str(host.client.last_error) == "nats: maximum subscriptions exceeded"


async def _sender(two: Two, who: str) -> tuple[Host, str]:
    """A connection and a subject that it may publish to."""
    if who == "a peer":
        return await two.alice.connect(), subjects.beat(ACCOUNT, "alice")
    host = await Host(two.bus.url, subjects.setup_key_hash("any")).connect(user="enrol", password="any")
    return host, subjects.enrol(host.name)


# Who gets in.


async def test_a_setup_key_lets_a_host_enrol_and_nothing_else(two: Two) -> None:
    host = await Host(two.bus.url, HASH).connect(user=ENROL_USER, password=SETUP_KEY)
    assert await host.may_publish(subjects.enrol(HASH))
    allowed = {*FORBIDDEN_TO_PUBLISH.values()} - {subjects.enrol(HASH)}
    own = [subjects.report_fact(ACCOUNT, "alice"), subjects.create_catch_up(ACCOUNT, "alice", OFFICE)]
    others_key = subjects.enrol(subjects.setup_key_hash("another key"))
    assert [subject for subject in (*allowed, *own, others_key) if await host.may_publish(subject)] == []
    foreign = [*FORBIDDEN_TO_SUBSCRIBE.values(), subjects.live_feed_of(ACCOUNT, OFFICE), "_INBOX.alice.>"]
    assert [subject for subject in foreign if await host.may_subscribe(subject)] == []
    assert await host.may_subscribe(f"{subjects.inbox(HASH)}.>")
    await host.leave()


async def test_the_right_to_enrol_ends_by_itself(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "ENROL_LIFETIME_S", 1.0)
    host = await Host(two.bus.url, HASH).connect(user=ENROL_USER, password=SETUP_KEY)
    await asyncio.wait_for(host.closed.wait(), 10)


@pytest.mark.parametrize(
    "presented",
    [
        {"name": "nothing"},
        {"nkeys_seed_str": new_seed("user")},
        {"user": "enrol", "password": ""},
        {"user": "enrol", "password": "x" * 1000},
        {"user": "acc.alice", "password": SETUP_KEY},
        {"user": "management", "password": "guess"},
        {"token": SETUP_KEY},
    ],
    ids=["nothing", "a strange key", "no setup key", "too long a key", "another user", "a service's name", "a token"],
)
async def test_whoever_is_no_peer_and_does_not_enrol_is_kept_out(two: Two, presented: dict[str, Any]) -> None:
    with pytest.raises(nats.errors.Error):
        await Host(two.bus.url, "stranger").connect(**presented)


async def raw_connect(url: str, public: str, signer: str, *, over: str = "") -> str:
    """What the server says to a CONNECT for `public`'s key signed by `signer`: "PONG" or an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    info = json.loads((await reader.readline()).partition(b" ")[2])
    signature = nkeys.from_seed(signer.encode()).sign((over or info["nonce"]).encode())
    options = {"nkey": public, "sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode(), "verbose": False}
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
    line = (await reader.readline()).decode().strip()
    while line == "PING":
        writer.write(b"PONG\r\n")
        line = (await reader.readline()).decode().strip()
    writer.close()
    return line


async def test_only_the_owner_of_the_key_can_sign_the_servers_nonce(two: Two) -> None:
    alice, mallory = two.alice, Host(two.bus.url, "mallory")
    assert await raw_connect(two.bus.url, alice.bus_key, alice.seed) == "PONG"
    for public, signer, over in [
        (alice.bus_key, mallory.seed, ""),
        (alice.bus_key, alice.seed, "an old nonce"),
        ("alice", alice.seed, ""),
    ]:
        assert await raw_connect(two.bus.url, public, signer, over=over) == "-ERR 'Authorization Violation'"


async def test_a_setup_key_does_not_pass_the_bus_in_clear(two: Two) -> None:
    seen: list[bytes] = []

    async def listen(message: Msg) -> None:
        seen.append(message.data)

    await two.bus.management.subscribe(subjects.AUTH_CALLOUT, cb=listen)
    await two.bus.management.flush()
    host = await Host(two.bus.url, HASH).connect(user=ENROL_USER, password=SETUP_KEY)
    await host.leave()
    [request] = await eventually(lambda: seen)
    assert SETUP_KEY.encode() not in request
    assert request.startswith(b"xkv1")


async def test_a_peer_that_enrolled_with_another_replica_a_moment_ago_is_let_in(two: Two) -> None:
    late = Host(two.bus.url, "late")
    two.replica.lag()
    await append(two.bus, builders.commit(replace(builders.peer("late"), bus_key=late.bus_key)))
    assert (await late.connect()).client.is_connected
    await late.leave()


def test_c5_only_logins_of_people_expire() -> None:
    there = builders.state()
    by_key = replace(builders.peer("by-key"), login_expiration_enabled=True)
    by_person = replace(by_key, user_id="carol")
    assert login_expires_at(there, by_key) == 0.0
    assert login_expires_at(there, by_person) == by_person.last_login + 86_400
    assert login_expires_at(there, replace(by_person, login_expiration_enabled=False)) == 0.0


async def test_c5_an_expired_peer_is_kept_out_and_one_that_expires_loses_its_connection(two: Two) -> None:
    expired, expiring = Host(two.bus.url, "expired"), Host(two.bus.url, "expiring")
    person: dict[str, Any] = {"user_id": "carol", "login_expiration_enabled": True}
    for host, login in ((expired, time.time() - 86_401), (expiring, time.time() - 86_398)):
        entity = replace(builders.peer(host.name), bus_key=host.bus_key, last_login=login, **person)
        await append(two.bus, builders.commit(entity))
    with pytest.raises(nats.errors.Error):
        await expired.connect()
    await expiring.connect()
    await asyncio.wait_for(expiring.closed.wait(), 10)


# How rights are withdrawn.


async def test_c5_a_deleted_peer_loses_its_connection_at_once_and_does_not_get_back(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    await append(two.bus, builders.commit(deletes=[Ref("peer", "alice")]))
    await asyncio.wait_for(alice.closed.wait(), 10)
    with pytest.raises(nats.errors.Error):
        await Host(two.bus.url, "alice", alice.seed).connect()
    assert bob.client.is_connected


async def test_c5_a_deleted_peer_has_no_grace(plain_bus: PlainBus, tmp_path: Path) -> None:
    alice = Host(plain_bus.url, "alice")
    await append(plain_bus, builders.commit(replace(builders.peer("alice"), bus_key=alice.bus_key)))
    async with admitting(plain_bus, tmp_path / "a.db", grace_s=600.0, sweep_every_s=600.0):
        await alice.connect()
        await append(plain_bus, builders.commit(deletes=[Ref("peer", "alice")]))
        await asyncio.wait_for(alice.closed.wait(), 30)


async def test_a_peer_that_left_a_group_and_does_not_reconnect_is_ended_after_the_grace(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await append(two.bus, builders.commit(replace(builders.peer("alice"), bus_key=alice.bus_key)))
    await asyncio.wait_for(alice.closed.wait(), 10)
    assert loop.time() - begin >= 0.4
    again = await Host(two.bus.url, "alice", alice.seed).connect()
    assert not await again.may_subscribe(subjects.live_feed_of(ACCOUNT, OFFICE))
    assert bob.client.is_connected
    await again.leave()


async def test_a_deleted_group_is_withdrawn_from_its_members(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    await append(two.bus, builders.commit(deletes=[Ref("group", "office")]))
    await asyncio.wait_for(alice.closed.wait(), 10)
    assert bob.client.is_connected


async def test_a_peer_that_reconnected_in_time_is_left_alone(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    for host, groups in ((alice, ("office", "secret")), (bob, ("office",))):
        await append(two.bus, builders.commit(replace(builders.peer(host.name, *groups), bus_key=host.bus_key)))
    again = await Host(two.bus.url, "alice", alice.seed).connect()
    assert await again.may_subscribe(subjects.live_feed_of(ACCOUNT, SECRET))
    await asyncio.wait_for(alice.closed.wait(), 10)  # the old connection goes
    await asyncio.wait_for(bob.closed.wait(), 10)
    assert again.client.is_connected
    assert not again.closed.is_set()
    await again.leave()


async def test_other_changes_of_a_peer_leave_its_connection_alone(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    renamed = replace(builders.peer("alice", "office"), bus_key=alice.bus_key, name="another name")
    await append(two.bus, builders.commit(renamed))
    await append(two.bus, builders.commit(deletes=[Ref("peer", "bob")]))
    await asyncio.wait_for(bob.closed.wait(), 10)
    assert alice.client.is_connected


async def test_a_host_that_floods_the_bus_is_ended_and_stays_out(two: Two) -> None:
    alice, bob = await two.alice.connect(), await two.bob.connect()
    with contextlib.suppress(nats.errors.Error):
        for _ in range(25_000):
            await alice.client.publish(subjects.beat(ACCOUNT, "alice"), b"once more")
        await alice.client.flush()
    await asyncio.wait_for(alice.closed.wait(), LIMIT_S)
    with pytest.raises(nats.errors.Error):
        await Host(two.bus.url, "alice", alice.seed).connect()
    assert bob.client.is_connected
    again = await Host(two.bus.url, "bob", bob.seed).connect()
    await again.leave()


@pytest.mark.parametrize("page", [1, 2, withdrawal.PAGE])
async def test_what_was_withdrawn_while_no_management_ran_is_made_up_for(
    plain_bus: PlainBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(withdrawal, "PAGE", page)
    names = ["alice", "bob", "carol", "dave", "erin"]
    hosts = {name: Host(plain_bus.url, name) for name in names}
    peers = [replace(builders.peer(name), bus_key=host.bus_key) for name, host in hosts.items()]
    await append(plain_bus, builders.commit(*peers))
    async with admitting(plain_bus, tmp_path / "a.db"):
        for host in hosts.values():
            await host.connect()
    await append(plain_bus, builders.commit(deletes=[Ref("peer", name) for name in ("alice", "bob", "erin")]))
    assert all(host.client.is_connected for host in hosts.values())
    async with admitting(plain_bus, tmp_path / "a.db"):
        for name in ("alice", "bob", "erin"):
            await asyncio.wait_for(hosts[name].closed.wait(), 10)
    for name in ("carol", "dave"):
        assert hosts[name].client.is_connected
        await hosts[name].leave()


async def test_many_changes_at_once_are_seen_to_together(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawal, "MOST_BY_NAME", 1)
    alice, bob = await two.alice.connect(), await two.bob.connect()
    await append(two.bus, builders.commit(deletes=[Ref("peer", "alice"), Ref("peer", "bob")]))
    await asyncio.wait_for(asyncio.gather(alice.closed.wait(), bob.closed.wait()), 10)
