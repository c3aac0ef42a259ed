"""Names that a routing peer resolves: the resolver and the agent's part on a real bus, with real DNS servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import dns.message
import pytest
from nats.aio.msg import Msg

from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.dns.exchange import Exchange
from services.agent.dns.resolving import Resolving
from services.agent.situation import Situation
from services.resolver import routingpeers
from services.resolver.core.routing import AWAY_AFTER
from shared.bus.codec import decode, encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import SETTINGS_ID, FeedMessage, ResolvingDoc
from shared.events.documents import DnsServer as Server
from shared.events.signals import NameAnswer, Resolve, Resolved
from shared.events.subjects import FeedKey
from tests.bus.resolver.test_service import ACCOUNT, FASTEST_S, domain_route, publish, resolver, told
from tests.support.bus import Bus, eventually
from tests.support.dns import SERVFAIL, SILENCE, DnsServer
from tests.unit.agent.make import documents, local, me, route


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routingpeers, "WITHIN_S", 1.0)


@pytest.fixture
async def inside() -> AsyncIterator[DnsServer]:
    """The DNS server of the private network."""
    server = DnsServer()
    await server.start("127.0.0.1")
    yield server
    server.stop()


class OnItsPort(Exchange):
    """The host's nameservers listen on port 53, for which a test has no right: that one is on a port of its own."""

    def __init__(self, inside: DnsServer) -> None:
        host, _, port = inside.address.rpartition(":")
        self._inside = Server(host, int(port))

    async def ask(self, server: Server, sent: dns.message.Message, *, tcp: bool = False) -> dns.message.Message | None:
        return await super().ask(self._inside, sent, tcp=tcp)


@contextlib.asynccontextmanager
async def routing_peer(bus: Bus, inside: DnsServer, *names: str, peer: str = "gw") -> AsyncIterator[None]:
    """The agent of a peer that serves a route with these names, as far as the resolver sees it."""
    client = await bus.peer(ACCOUNT, peer)
    there = documents(me(peer), [], routes=[route("r1", domains=names, by=(peer,))])
    situation = Situation(local(), there)
    situation.host_dns.set(ResolvConf(servers=("127.0.0.1",)))

    async def send(subject: str, payload: bytes) -> bool:
        await client.publish(subject, payload)
        return True

    part = Resolving(situation, OnItsPort(inside), send, ACCOUNT, peer, Undecodables())

    async def hear(message: Msg) -> None:
        part.hear(message.subject, message.data)

    await client.subscribe(subjects.resolve(ACCOUNT, peer), cb=hear)
    await client.flush()
    running = asyncio.create_task(part.run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await client.close()


async def test_d6_a_name_is_resolved_from_its_routing_peers_point_of_view_and_nobody_else_hears_of_it(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    inside.zone = {"a.example": ["A 10.0.0.1", "AAAA fd00::1"], "b.example": ["A 10.0.0.2"]}
    async with routing_peer(bus, inside, "a.example", "b.example"), resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", "b.example", peers=("gw",)))
        found = await told(bus, {"a.example": ["10.0.0.1", "fd00::1"], "b.example": ["10.0.0.2"]}, within_s=5.0)
    assert {name.source for name in found.names} == {"peer:gw"}
    assert dns_server.asked.total() == 0


async def test_d6_the_next_routing_peer_is_asked_when_one_is_silent_or_cannot_find_out(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    inside.zone = {"a.example": ["A 10.0.0.1"]}
    broken = DnsServer()
    broken.zone = {"a.example": SERVFAIL}
    await broken.start("127.0.0.1")
    try:
        async with (
            routing_peer(bus, broken, "a.example", peer="gw1"),
            routing_peer(bus, inside, "a.example", peer="gw2"),
            resolver(bus, dns_server),
        ):
            await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gone", "gw1", "gw2")))
            found = await told(bus, {"a.example": ["10.0.0.1"]})
    finally:
        broken.stop()
    assert found.names[0].source == "peer:gw2"
    assert dns_server.asked.total() == 0


async def test_d6_without_a_routing_peer_that_answers_the_resolvers_servers_are_asked(
    bus: Bus, dns_server: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gone",)))
        found = await told(bus, {"a.example": ["192.0.2.9"]})
    assert found.names[0].source == dns_server.address


async def test_d6_where_no_routing_peer_can_find_out_the_resolvers_servers_are_asked(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    inside.zone = {"a.example": SERVFAIL}
    async with routing_peer(bus, inside, "a.example"), resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gw",)))
        await told(bus, {"a.example": ["192.0.2.9"]})


async def test_d6_a_name_that_does_not_exist_inside_is_asked_of_nobody_else(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    inside.zone = {"b.example": ["A 10.0.0.1"]}
    async with routing_peer(bus, inside, "a.example", "b.example"), resolver(bus, dns_server, interval_s=FASTEST_S):
        await publish(bus, "g.g1", 7, domain_route("a.example", "b.example", peers=("gw",)))
        await told(bus, {"b.example": ["10.0.0.1"]})
        await eventually(lambda: inside.asked["a.example", "A"] >= 2)
    assert dns_server.asked.total() == 0


async def test_d6_where_routing_peers_do_not_resolve_they_are_not_asked(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    inside.zone = {"a.example": ["A 10.0.0.1"]}
    key = FeedKey(ACCOUNT, subjects.RESOLVER_AUDIENCE, "resolving", SETTINGS_ID)
    off = encode(FeedMessage(7, ResolvingDoc(routing_peers=False)))
    await bus.management.jetstream().publish(subjects.feed(key), off)
    async with routing_peer(bus, inside, "a.example"), resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gw",)))
        await told(bus, {"a.example": ["192.0.2.9"]})
    assert inside.asked.total() == 0


async def test_d6_an_agent_that_is_away_for_a_moment_changes_nothing_and_for_longer_others_are_asked(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    inside.zone = {"a.example": ["A 10.0.0.1"]}
    async with resolver(bus, dns_server, interval_s=FASTEST_S):
        async with routing_peer(bus, inside, "a.example"):
            await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gw",)))
            await told(bus, {"a.example": ["10.0.0.1"]})
        silent = await bus.peer(ACCOUNT, "gw")
        heard: list[Msg] = []

        async def hear(message: Msg) -> None:
            heard.append(message)

        await silent.subscribe(subjects.resolve(ACCOUNT, "gw"), cb=hear)
        await eventually(lambda: dns_server.asked.total())
        assert len(heard) >= AWAY_AFTER - 1  # and one may have gone out before anybody heard it
        found = await told(bus, {"a.example": ["192.0.2.9"]})
        assert found.names[0].source == dns_server.address


async def test_d7_a_name_that_takes_long_inside_delays_no_other_one(
    bus: Bus, dns_server: DnsServer, inside: DnsServer
) -> None:
    bad = [f"bad{number}.example" for number in range(20)]
    inside.zone = {"good.example": ["A 10.0.0.1"], **dict.fromkeys(bad, SILENCE)}
    async with routing_peer(bus, inside, *bad, "good.example"), resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route(*bad, "good.example", peers=("gw",)))
        await eventually(lambda: inside.asked["good.example", "A"])
        await told(bus, {"good.example": ["10.0.0.1"]}, within_s=1.0)


class Asker:
    """Asks as the resolver does. heard: the answers."""

    def __init__(self) -> None:
        self.heard: list[NameAnswer] = []

    async def ask(self, bus: Bus, *names: str) -> None:
        client: Any = await bus.service("resolver")

        async def hear(message: Msg) -> None:
            resolved = decode(message.subject, message.data, Resolved)
            assert resolved.request == "1"
            self.heard += resolved.answers

        await client.subscribe(subjects.RESOLVED_ALL, cb=hear)
        await client.publish(subjects.resolve(ACCOUNT, "gw"), encode(Resolve(request="1", names=names)))


async def test_a_routing_peer_looks_up_names_of_its_routes_and_no_others(bus: Bus, inside: DnsServer) -> None:
    inside.zone = {"a.example": ["CNAME b.example."], "b.example": ["A 10.0.0.1"], "x.wild.example": ["A 10.0.0.2"]}
    asker = Asker()
    async with routing_peer(bus, inside, "a.example", "no.example", "*.wild.example"):
        await asker.ask(
            bus, "foreign.example", "x.wild.example", "*.wild.example", "b.example", "a.example", "no.example"
        )
        await eventually(lambda: len(asker.heard) == 2)
    assert sorted(asker.heard, key=lambda one: one.name) == [
        NameAnswer("a.example", ("10.0.0.1",), ()),
        NameAnswer("no.example", (), ()),
    ]
    assert {name for name, _ in inside.asked} == {"a.example", "no.example"}


async def test_what_a_routing_peer_was_not_asked_for_or_that_is_no_address_counts_for_nothing(
    bus: Bus, dns_server: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.9"]}
    client = await bus.peer(ACCOUNT, "gw")

    async def lie(message: Msg) -> None:
        subject = subjects.resolved(ACCOUNT, "gw")
        request = decode(message.subject, message.data, Resolve).request
        for said in (
            Resolved(request="another", answers=(NameAnswer("a.example", ("10.0.0.1",), ()),)),
            Resolved(request=request, answers=(NameAnswer("b.example", ("10.0.0.2",), ()),)),
            Resolved(request=request, answers=(NameAnswer("a.example", ("10.0.0.0/8",), ()),)),
        ):
            await client.publish(subject, encode(said))
        await client.publish(subject, b"\xc1")

    await client.subscribe(subjects.resolve(ACCOUNT, "gw"), cb=lie)
    await client.flush()
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", peers=("gw",)))
        found = await told(bus, {"a.example": ["192.0.2.9"]})
    assert found.names[0].source == dns_server.address
