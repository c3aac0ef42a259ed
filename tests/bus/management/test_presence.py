"""Facts of peers, as the API sees them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace
from nats.aio.client import Client

from services.management.peerfacts import Presence
from shared.bus.codec import encode
from shared.bus.connection import connect
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import ReportFact, RouteState, SessionFact
from tests.support.bus import Bus, eventually

ACCOUNT = "acc"


def session(peer: str, *, connected: bool) -> SessionFact:
    return SessionFact(peer_id=peer, epoch=1, connected=connected, since=1_000.0)


@pytest.fixture
async def signal(bus: Bus) -> AsyncIterator[Client]:
    """The connection of the service that writes sessions."""
    connection = await connect(bus.url, bus.keys.signal, "signal")
    yield connection
    await connection.close()


async def observe(signal: Client, fact: SessionFact) -> None:
    await signal.jetstream().publish(subjects.session_fact(ACCOUNT, fact.peer_id), encode(fact))


@asynccontextmanager
async def following(bus: Bus) -> AsyncIterator[Presence]:
    presence = Presence(Undecodables())
    task = asyncio.create_task(presence.follow(bus.management))
    try:
        yield presence
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_newest_session_of_each_peer_is_known(bus: Bus, signal: Client) -> None:
    for connected in (False, True):
        await observe(signal, session("alice", connected=connected))
    async with following(bus) as presence:
        await eventually(lambda: presence.session(ACCOUNT, "alice") == session("alice", connected=True))
        assert presence.session(ACCOUNT, "bob") is None
        assert presence.report(ACCOUNT, "alice") is None
        await observe(signal, session("alice", connected=False))
        await eventually(lambda: presence.session(ACCOUNT, "alice") == session("alice", connected=False))


async def test_a_garbled_fact_does_not_hide_the_others(bus: Bus, signal: Client) -> None:
    async with following(bus) as presence:
        await signal.jetstream().publish(subjects.session_fact(ACCOUNT, "alice"), b"garbage")
        await observe(signal, session("bob", connected=True))
        await eventually(lambda: presence.session(ACCOUNT, "bob"))
        assert presence.session(ACCOUNT, "alice") is None


def reporting(*routes: RouteState) -> ReportFact:
    return ReportFact(
        peer_id="alice",
        version="1.0.0",
        hostname="alice",
        os="Debian",
        kernel="6.18",
        backend="kernel",
        desired_revision=2,
        applied_revision=1,
        pending=0,
        routes=routes,
    )


def test_connected_clients_are_counted_on_the_routing_peers_they_report() -> None:
    presence, counts = Presence(Undecodables()), []
    on_gw = RouteState(route_id="lan", state="installed", routing_peer="gw")
    junk = RouteState(route_id="x" * 256, state="installed", routing_peer="gw")
    for fact in (
        reporting(on_gw, on_gw, junk, RouteState(route_id="db", state="serving")),
        session("alice", connected=True),
        reporting(RouteState(route_id="lan", state="installed", routing_peer="gw2")),
        session("alice", connected=False),
    ):
        kind = subjects.session_fact if isinstance(fact, SessionFact) else subjects.report_fact
        presence.message(kind(ACCOUNT, "alice"), encode(fact), 1)
        counts.append([presence.clients(ACCOUNT, "lan", gateway) for gateway in ("gw", "gw2")])
    assert counts == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert presence.clients(ACCOUNT, "x" * 256, "gw") == presence.clients(ACCOUNT, "db", "") == 0


def test_what_a_new_snapshot_does_not_bring_has_expired() -> None:
    presence = Presence(Undecodables())
    report, route = reporting(), RouteState(route_id="lan", state="installed", routing_peer="gw")
    facts = {
        subjects.session_fact(ACCOUNT, "alice"): session("alice", connected=True),
        subjects.session_fact(ACCOUNT, "bob"): session("bob", connected=True),
        subjects.report_fact(ACCOUNT, "alice"): replace(report, routes=(route,)),
    }

    def snapshot(*which: str) -> None:
        presence.begin()
        for sequence, subject in enumerate(which, 1):
            presence.message(subject, encode(facts[subject]), sequence)

    snapshot(*facts)
    presence.caught_up()
    assert presence.report(ACCOUNT, "alice") == report, "kept without its routes, which may be many"
    assert presence.clients(ACCOUNT, "lan", "gw") == 1
    snapshot(subjects.session_fact(ACCOUNT, "bob"))
    assert presence.session(ACCOUNT, "alice"), "nothing is forgotten before the snapshot is whole"
    presence.caught_up()
    assert presence.session(ACCOUNT, "alice") is None
    assert presence.report(ACCOUNT, "alice") is None
    assert presence.clients(ACCOUNT, "lan", "gw") == 0
    assert presence.session(ACCOUNT, "bob")
