"""Hosts that become peers, over the real bus."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from services.management.core.entities import Ref
from services.management.enrolment import UNKNOWN
from shared.bus.codec import decode, encode
from shared.events import subjects
from shared.events.logins import ENROL_USER
from shared.events.signals import Enrolled, EnrolRefused, EnrolReply, EnrolRequest, PeerMeta
from shared.metrics import REGISTRY
from tests import builders
from tests.bus.management.hosts import Host
from tests.bus.management.plane import PlainBus, admitting
from tests.bus.management.replica import Replica, append, whole_log
from tests.support.bus import eventually

KEY = "A1B2C3D4-0000-4000-8000-ABCDEFABCDEF"


@pytest.fixture
async def plane(plain_bus: PlainBus, tmp_path: Path) -> AsyncIterator[Replica]:
    async with admitting(plain_bus, tmp_path / "a.db") as replica:
        yield replica


async def ask(bus: PlainBus, setup_key: str, data: bytes) -> EnrolReply:
    """What a host that presents the key is answered."""
    key_hash = subjects.setup_key_hash(setup_key)
    host = await Host(bus.url, key_hash).connect(user=ENROL_USER, password=setup_key)
    try:
        answer = await host.client.request(subjects.enrol(key_hash), data, timeout=10)
    finally:
        await host.leave()
    return decode("reply", answer.data, EnrolReply)  # type: ignore[arg-type]


def wanting(name: str, bus_key: str = "") -> EnrolRequest:
    request = builders.enrol_request(name)
    return replace(request, bus_key=bus_key) if bus_key else request


async def test_a_host_with_a_setup_key_becomes_a_peer_that_is_let_in(plain_bus: PlainBus, plane: Replica) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))
    host = Host(plain_bus.url, "unknown-yet")
    reply = await ask(plain_bus, KEY, encode(wanting("alice", host.bus_key)))
    assert isinstance(reply, Enrolled)
    assert reply.account == builders.ACCOUNT
    assert plane.account.peers[reply.peer_id].bus_key == host.bus_key
    assert plane.account.setup_keys["key"].used_times == 1

    host.name = reply.peer_id
    await host.connect()
    assert await host.may_publish(subjects.report_fact(builders.ACCOUNT, reply.peer_id))
    await host.leave()


async def test_a_key_that_another_replica_made_a_moment_ago_is_known(plain_bus: PlainBus, plane: Replica) -> None:
    plane.lag()
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))
    assert isinstance(await ask(plain_bus, KEY, encode(wanting("alice"))), Enrolled)


async def test_asking_again_gives_the_same_peer_and_uses_nothing_up(plain_bus: PlainBus, plane: Replica) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY, usage_limit=1)))
    first = await ask(plain_bus, KEY, encode(wanting("alice")))
    assert await ask(plain_bus, KEY.lower(), encode(wanting("alice"))) == first
    assert plane.account.setup_keys["key"].used_times == 1
    assert len(await whole_log(plain_bus)) == 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"revoked": True}, "revoked"),
        ({"expires_at": builders.NOW}, "expired"),
        ({"usage_limit": 1, "used_times": 1}, "used-up"),
        (None, "unknown"),
    ],
)
async def test_a_key_that_does_not_serve_says_why_and_nothing_is_changed(
    plain_bus: PlainBus, plane: Replica, fields: dict[str, object] | None, reason: str
) -> None:
    if fields is not None:
        await append(plain_bus, builders.commit(builders.setup_key("key", KEY, **fields)))
    before = await whole_log(plain_bus)
    refusal = await ask(plain_bus, KEY, encode(wanting("alice")))
    assert isinstance(refusal, EnrolRefused)
    assert refusal.reason == reason
    assert KEY not in refusal.message
    assert "\n" not in refusal.message
    assert await whole_log(plain_bus) == before


async def test_a_request_that_cannot_be_decoded_is_refused_and_counted_and_enrolment_goes_on(
    plain_bus: PlainBus, plane: Replica
) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))

    def counted() -> float:
        labels = {"pattern": subjects.ENROL_ALL}
        return REGISTRY.get_sample_value("whimbrel_undecodable_messages_total", labels) or 0.0

    before = counted()
    for data in (b"", b"\xc1", b'{"wireguard_key": 5}'):
        refusal = await ask(plain_bus, KEY, data)
        assert isinstance(refusal, EnrolRefused)
        assert refusal.reason == "invalid"
    assert counted() == before + 3
    assert isinstance(await ask(plain_bus, KEY, encode(wanting("alice"))), Enrolled)


async def test_hosts_that_ask_two_replicas_at_once_each_become_one_peer(plain_bus: PlainBus, tmp_path: Path) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY, usage_limit=20)))
    async with admitting(plain_bus, tmp_path / "a.db") as a, admitting(plain_bus, tmp_path / "b.db") as b:
        names = [f"host-{number}" for number in range(24)]
        replies = await asyncio.gather(*(ask(plain_bus, KEY, encode(wanting(name))) for name in names))
        await asyncio.gather(a.readmodel.catch_up(), b.readmodel.catch_up())
        enrolled = [reply for reply in replies if isinstance(reply, Enrolled)]
        refused = [reply.reason for reply in replies if isinstance(reply, EnrolRefused)]
        assert set(refused) <= {"used-up", "unavailable"}
        assert {reply.peer_id for reply in enrolled} == set(a.account.peers) == set(b.account.peers)
        assert len({peer.address_v4 for peer in a.account.peers.values()}) == len(enrolled)
        assert a.account.setup_keys["key"].used_times == len(enrolled) <= 20


def test_what_hosts_say_of_themselves_fits_the_enrolling_connections_limit() -> None:
    """The largest request that is not refused for its lengths anyway."""
    text = "x" * 255
    meta = msgspec.convert({field: text for field in PeerMeta.__struct_fields__ if field != "ipv6"}, PeerMeta)
    request = replace(builders.enrol_request("alice", labels=["l" * 63] * 32), meta=meta)
    assert len(encode(request)) < 64 * 1024


async def test_who_asks_without_end_with_an_unknown_key_does_not_have_the_log_asked_each_time(
    plain_bus: PlainBus, plane: Replica
) -> None:
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))
    readmodel, asked = plane.readmodel, []
    catch_up = readmodel.catch_up

    async def counted() -> None:
        asked.append(1)
        await catch_up()

    readmodel.catch_up = counted  # type: ignore[method-assign]
    wrong = "wrong"
    key_hash = subjects.setup_key_hash(wrong)
    host = await Host(plain_bus.url, key_hash).connect(user=ENROL_USER, password=wrong)
    for number in range(1_000):
        await host.client.publish(subjects.enrol(key_hash), b"x", reply=f"{host.client.new_inbox()}{number}")
    assert isinstance(await ask(plain_bus, KEY, encode(wanting("alice"))), Enrolled)
    await host.leave()
    assert len(asked) < 100


async def test_c5_who_asks_with_a_key_that_nobody_has_is_told_how_its_peer_stands(
    plain_bus: PlainBus, plane: Replica
) -> None:
    async def standing(bus_key: str) -> str:
        refusal = await ask(plain_bus, KEY, encode(wanting("whoever", bus_key)))
        assert isinstance(refusal, EnrolRefused)
        return refusal.peer

    alice, bob = Host(plain_bus.url, "alice"), Host(plain_bus.url, "bob")
    expired = {"user_id": "carol", "login_expiration_enabled": True, "last_login": time.time() - 86_401}
    await append(plain_bus, builders.commit(replace(builders.peer("alice"), bus_key=alice.bus_key)))
    await append(plain_bus, builders.commit(replace(builders.peer("bob"), bus_key=bob.bus_key, **expired)))
    assert await standing(alice.bus_key) == "admitted"
    assert await standing(bob.bus_key) == "expired"
    await append(plain_bus, builders.commit(deletes=[Ref("peer", "alice")]))
    assert await standing(alice.bus_key) == "unknown"


async def test_an_unknown_key_is_known_a_moment_after_it_was_made(plain_bus: PlainBus, plane: Replica) -> None:
    assert await ask(plain_bus, KEY, encode(wanting("alice"))) == UNKNOWN
    plane.lag()
    await append(plain_bus, builders.commit(builders.setup_key("key", KEY)))

    async def enrolled() -> bool:
        return isinstance(await ask(plain_bus, KEY, encode(wanting("alice"))), Enrolled)

    await eventually(enrolled)
