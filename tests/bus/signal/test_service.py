"""The signal service on a real bus."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from services.signal import wiring
from services.signal.core.introductions import Limits
from services.signal.settings import Settings
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.facts import SessionFact
from shared.events.signals import Beat
from shared.metrics import REGISTRY
from tests.support.bus import LIMIT_S, Bus, eventually
from tests.support.damage import break_off

ACCOUNT = "acc"
MAX_SILENCE_S = 1.0
"""Short enough to wait for, and longer than a loaded machine holds up twenty heartbeats."""


@contextlib.asynccontextmanager
async def replica(bus: Bus) -> AsyncIterator[None]:
    """The service in this process, until the block ends."""
    settings = Settings(bus=bus.url, credentials=bus.seeds / "signal.nk")
    limits = Limits(max_bytes=1024, burst=10, rate_per_s=0.001)
    running = asyncio.create_task(wiring.run(settings, max_silence_s=MAX_SILENCE_S, limits=limits))
    try:
        yield
        assert not running.done(), running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@contextlib.asynccontextmanager
async def beating(peer: Client, name: str, *, epoch: int, every_s: float = 0.05) -> AsyncIterator[None]:
    """Heartbeats until the block ends; then no more, and no goodbye."""

    async def beats() -> None:
        while True:
            await peer.publish(subjects.beat(ACCOUNT, name), encode(Beat(peer_id=name, epoch=epoch)))
            await asyncio.sleep(every_s)

    running = asyncio.create_task(beats())
    try:
        yield
    finally:
        running.cancel()


async def session(bus: Bus, peer: str) -> SessionFact | None:
    return await bus.last("FACTS", subjects.session_fact(ACCOUNT, peer), SessionFact)


async def told(bus: Bus, peer: str, *, connected: bool, epoch: int, within_s: float = LIMIT_S) -> SessionFact:
    """The peer's fact, once it says so."""

    async def look() -> SessionFact | None:
        fact = await session(bus, peer)
        return fact if fact is not None and (fact.connected, fact.epoch) == (connected, epoch) else None

    fact: SessionFact = await eventually(look, within_s=within_s)
    return fact


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def mailbox(peer: Client, name: str) -> Subscription:
    """What a peer receives."""
    return await peer.subscribe(subjects.signals_to(ACCOUNT, name))


async def introduced(sender: Client, name: str, box: Subscription, receiver: str) -> None:
    """Return once a signal from `sender` arrives: the service listens, and so does the receiver."""

    async def arrives() -> bool:
        await sender.publish(subjects.signal_from(ACCOUNT, name, receiver), b"are you there")
        with contextlib.suppress(TimeoutError):
            await box.next_msg(0.2)
            return True
        return False

    await eventually(arrives)
    with contextlib.suppress(TimeoutError):
        while True:
            await box.next_msg(0.05)  # an earlier one that was only late


async def a_silence_passes(bus: Bus) -> None:
    """Return when a peer that was heard a moment ago counts as silent; takes two facts."""
    name = f"witness{next(_witnesses)}"
    witness = await bus.peer(ACCOUNT, name)
    async with beating(witness, name, epoch=1):  # a service that has just started may miss the first ones
        await told(bus, name, connected=True, epoch=1)
    await told(bus, name, connected=False, epoch=1)


_witnesses = itertools.count()


SEALED = [
    pytest.param(bytes(range(256)), id="any bytes"),
    pytest.param(b'{"json": 1}', id="bytes that look like JSON"),
    pytest.param(b"[" * 1024, id="bytes that JSON chokes on"),
    pytest.param(b"\r\n padded \0", id="white space at the ends"),
    pytest.param(b"", id="no bytes"),
    pytest.param(b"7" * 1024, id="the largest that is allowed"),
]


@pytest.mark.parametrize("sealed", SEALED)
async def test_sealed_signals_arrive_byte_for_byte(bus: Bus, sealed: bytes) -> None:
    alice, bob = await bus.peer(ACCOUNT, "alice"), await bus.peer(ACCOUNT, "bob")
    box = await mailbox(bob, "bob")
    async with replica(bus):
        await introduced(alice, "alice", box, "bob")
        await alice.publish(subjects.signal_from(ACCOUNT, "alice", "bob"), sealed)
        message = await box.next_msg(5)
        assert (message.subject, message.data) == ("signal.acc.to.bob.alice", sealed)


async def test_nothing_of_the_senders_envelope_travels_along(bus: Bus) -> None:
    alice, bob = await bus.peer(ACCOUNT, "alice"), await bus.peer(ACCOUNT, "bob")
    box = await mailbox(bob, "bob")
    async with replica(bus):
        await introduced(alice, "alice", box, "bob")
        await alice.publish(
            subjects.signal_from(ACCOUNT, "alice", "bob"),
            b"sealed",
            reply="_INBOX.bob.trap",
            headers={"Sender": "carol"},
        )
        message = await box.next_msg(5)
        assert (message.subject, message.reply, message.headers) == ("signal.acc.to.bob.alice", "", None)


async def test_a_sender_cannot_be_forged(bus: Bus) -> None:
    alice, mallory, bob = [await bus.peer(ACCOUNT, name) for name in ("alice", "mallory", "bob")]
    box = await mailbox(bob, "bob")
    async with replica(bus):
        await introduced(mallory, "mallory", box, "bob")
        await mallory.publish(subjects.signal_from(ACCOUNT, "alice", "bob"), b"forged on the way in")
        await mallory.publish(subjects.signal_to(ACCOUNT, "bob", "alice"), b"forged on the way out")
        await mallory.publish(subjects.beat(ACCOUNT, "alice"), encode(Beat(peer_id="alice", epoch=1)))
        await mallory.publish(subjects.signal_from(ACCOUNT, "mallory", "bob"), b"my own")
        assert (await box.next_msg(5)).data == b"my own"
        await alice.publish(subjects.signal_from(ACCOUNT, "alice", "bob"), b"real")
        assert (await box.next_msg(5)).data == b"real"
        assert await session(bus, "alice") is None


async def test_a_heartbeat_in_the_own_name_cannot_speak_for_another(bus: Bus) -> None:
    mallory = await bus.peer(ACCOUNT, "mallory")
    before = count("whimbrel_undecodable_messages_total", pattern=subjects.BEAT_ALL)
    async with replica(bus), beating(mallory, "mallory", epoch=1):
        await told(bus, "mallory", connected=True, epoch=1)
        await mallory.publish(subjects.beat(ACCOUNT, "mallory"), encode(Beat(peer_id="alice", epoch=1)))
        await eventually(lambda: count("whimbrel_undecodable_messages_total", pattern=subjects.BEAT_ALL) == before + 1)
        assert await session(bus, "alice") is None


async def test_too_large_and_too_many_signals_are_dropped_and_counted(bus: Bus) -> None:
    alice, bob = await bus.peer(ACCOUNT, "alice"), await bus.peer(ACCOUNT, "bob")
    box = await mailbox(bob, "bob")
    large = count("whimbrel_signal_withheld_total", reason="too-large")
    many = count("whimbrel_signal_withheld_total", reason="too-many")
    async with replica(bus):
        await introduced(alice, "alice", box, "bob")
        carol = await bus.peer(ACCOUNT, "carol")
        await carol.publish(subjects.signal_from(ACCOUNT, "carol", "bob"), b"x" * 1025)
        for number in range(12):
            await carol.publish(subjects.signal_from(ACCOUNT, "carol", "bob"), b"%d" % number)
        await eventually(lambda: count("whimbrel_signal_withheld_total", reason="too-many") == many + 2)
        assert count("whimbrel_signal_withheld_total", reason="too-large") == large + 1
        assert [(await box.next_msg(5)).data for _ in range(10)] == [b"%d" % number for number in range(10)]


async def test_replicas_share_the_signals_and_deliver_each_once(bus: Bus) -> None:
    alice, bob = await bus.peer(ACCOUNT, "alice"), await bus.peer(ACCOUNT, "bob")
    box = await mailbox(bob, "bob")
    async with replica(bus), replica(bus):
        await introduced(alice, "alice", box, "bob")
        carol = await bus.peer(ACCOUNT, "carol")
        for number in range(8):
            await carol.publish(subjects.signal_from(ACCOUNT, "carol", "bob"), b"%d" % number)
        await carol.publish(subjects.signal_from(ACCOUNT, "carol", "carol"), b"end")
        assert {(await box.next_msg(5)).data for _ in range(8)} == {b"%d" % number for number in range(8)}
        await introduced(bob, "bob", box, "bob")
        assert box.pending_msgs == 0


async def test_a_heartbeat_makes_a_peer_connected_and_silence_makes_it_silent(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus):
        async with beating(alice, "alice", epoch=7):
            heard = await told(bus, "alice", connected=True, epoch=7)
            await a_silence_passes(bus)
            assert await session(bus, "alice") == heard
        silent = await told(bus, "alice", connected=False, epoch=7, within_s=MAX_SILENCE_S + 1.0)
    assert heard.since < silent.since


async def test_a_goodbye_is_told_at_once(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus):
        await eventually(lambda: beat_until_told(bus, alice, epoch=1))
        await alice.publish(subjects.beat(ACCOUNT, "alice"), encode(Beat(peer_id="alice", epoch=1, leaving=True)))
        await told(bus, "alice", connected=False, epoch=1, within_s=MAX_SILENCE_S / 2)


async def beat_until_told(bus: Bus, alice: Client, *, epoch: int) -> bool:
    await alice.publish(subjects.beat(ACCOUNT, "alice"), encode(Beat(peer_id="alice", epoch=epoch)))
    fact = await session(bus, "alice")
    return fact is not None and fact.connected


async def test_a_silence_while_the_service_was_away_is_noticed(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus), beating(alice, "alice", epoch=3):
        await told(bus, "alice", connected=True, epoch=3)
    async with replica(bus):
        await told(bus, "alice", connected=False, epoch=3, within_s=MAX_SILENCE_S + 2.0)


async def test_a_restart_of_the_service_is_no_news_of_a_peer_that_goes_on_beating(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with beating(alice, "alice", epoch=3):
        async with replica(bus):
            await told(bus, "alice", connected=True, epoch=3)
        written = await bus.values_ever("FACTS")
        async with replica(bus):
            await a_silence_passes(bus)
            assert await bus.values_ever("FACTS") == written + 2


async def test_replicas_write_each_edge_once(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus), replica(bus), replica(bus):
        for round_ in range(1, 4):
            async with beating(alice, "alice", epoch=5):
                await told(bus, "alice", connected=True, epoch=5)
            await told(bus, "alice", connected=False, epoch=5)
            await a_silence_passes(bus)
            assert await bus.values_ever("FACTS") == 4 * round_


async def test_one_replica_is_enough(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus):
        await a_silence_passes(bus)  # it listens: one that only read of the session would give alice longer
        async with replica(bus), beating(alice, "alice", epoch=5):
            await told(bus, "alice", connected=True, epoch=5)
        await told(bus, "alice", connected=False, epoch=5)


async def test_the_streams_may_come_later(bare_bus: Bus) -> None:
    alice = await bare_bus.peer(ACCOUNT, "alice")
    before = count("whimbrel_signal_session_facts_total")
    async with replica(bare_bus), beating(alice, "alice", epoch=1):
        await eventually(lambda: count("whimbrel_signal_connected_peers") == 1)
        assert count("whimbrel_signal_session_facts_total") == before
        await bare_bus.make_streams()
        await told(bare_bus, "alice", connected=True, epoch=1, within_s=20.0)


async def test_presence_goes_on_after_a_restart_of_the_bus(bus: Bus) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    async with replica(bus):
        async with beating(alice, "alice", epoch=1):
            await told(bus, "alice", connected=True, epoch=1)
            await bus.restart()
            async with beating(alice, "alice", epoch=2):
                await told(bus, "alice", connected=True, epoch=2, within_s=30.0)
        await told(bus, "alice", connected=False, epoch=2)


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"not a heartbeat", msgspec.msgpack.encode({"type": "beat.v9"})])
async def test_what_cannot_be_decoded_is_counted_and_the_service_goes_on(bus: Bus, garbage: bytes) -> None:
    alice = await bus.peer(ACCOUNT, "alice")
    before = count("whimbrel_undecodable_messages_total", pattern=subjects.BEAT_ALL)
    async with replica(bus), beating(alice, "alice", epoch=1):
        await told(bus, "alice", connected=True, epoch=1)
        await alice.publish(subjects.beat(ACCOUNT, "alice"), garbage)
        await eventually(lambda: count("whimbrel_undecodable_messages_total", pattern=subjects.BEAT_ALL) == before + 1)
        async with beating(alice, "alice", epoch=2):
            await told(bus, "alice", connected=True, epoch=2)


async def test_sessions_that_the_bus_lost_are_written_again(bus: Bus) -> None:
    names = [f"lost{number}" for number in range(12)]
    async with replica(bus), contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(beating(await bus.peer(ACCOUNT, name), name, epoch=1))
            await told(bus, name, connected=True, epoch=1)
        await break_off(bus, "FACTS")
        assert (await bus.management.jetstream().stream_info("FACTS")).state.messages < len(names)
        for name in names:
            await told(bus, name, connected=True, epoch=1)
