"""The resolver on a real bus, with a real DNS server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from services.resolver import feed, wiring
from services.resolver.settings import Settings
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.documents import SETTINGS_ID, FeedMessage, ResolvingDoc, RouteDoc, Tombstone, UpstreamServer
from shared.events.facts import ResolutionFact
from shared.events.subjects import FeedKey
from shared.metrics import REGISTRY
from tests.support.bus import LIMIT_S, Bus, eventually
from tests.support.damage import break_off, empty
from tests.support.dns import SERVFAIL, SILENCE, DnsServer

ACCOUNT = "acc"
FASTEST_S = 2.0  # the floor of the interval (D6)


@contextlib.asynccontextmanager
async def resolver(bus: Bus, dns_server: DnsServer, *, interval_s: float = 60.0) -> AsyncIterator[None]:
    """The service in this process, until the block ends."""
    settings = Settings(
        bus=bus.url,
        credentials=bus.seeds / "resolver.nk",
        dns_servers=(dns_server.address,),
        dns_router_interval=interval_s,
    )
    running = asyncio.create_task(wiring.run(settings))
    try:
        yield
        assert not running.done(), running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def publish(bus: Bus, audience: str, revision: int, document: RouteDoc | Tombstone, *, route: str = "r1") -> None:
    """Write to the feed as the projector does."""
    subject = subjects.feed(FeedKey(ACCOUNT, audience, "route", route))
    await bus.management.jetstream().publish(subject, encode(FeedMessage(revision, document)))


def domain_route(*domains: str, keep: bool = False, route: str = "r1", peers: tuple[str, ...] = ()) -> RouteDoc:
    return RouteDoc(
        route_id=route,
        network_id="net",
        network="",
        domains=domains,
        metric=9999,
        masquerade=True,
        keep_route=keep,
        skip_auto_apply=False,
        routing_peers=peers,
        distribution=("g1",),
        permits=None,
    )


async def fact(bus: Bus, route: str = "r1") -> ResolutionFact | None:
    return await bus.last("FACTS", subjects.resolution_fact(ACCOUNT, route), ResolutionFact)


async def facts_ever(bus: Bus) -> int:
    """Facts that were ever written; one message beside them is delivered to the replica that resolves."""
    return await bus.values_ever("FACTS") - 1


def addresses(found: ResolutionFact | None) -> dict[str, list[str]]:
    return {name.name: [each.address for each in name.addresses] for name in found.names} if found else {}


async def told(
    bus: Bus, expected: dict[str, list[str]], *, route: str = "r1", within_s: float = LIMIT_S
) -> ResolutionFact:
    """The route's fact, once it has these addresses."""

    async def look() -> ResolutionFact | None:
        found = await fact(bus, route)
        return found if found is not None and addresses(found) == expected else None

    found: ResolutionFact = await eventually(look, within_s=within_s)
    return found


def undecodable() -> float:
    return REGISTRY.get_sample_value("whimbrel_undecodable_messages_total", {"pattern": subjects.FEED_ROUTES}) or 0.0


def asked_again(dns_server: DnsServer, name: str, times: int = 2) -> Callable[[], bool]:
    return lambda: dns_server.asked[name, "A"] >= times and dns_server.asked[name, "AAAA"] >= times


async def test_the_names_of_a_domain_route_become_addresses(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1", "AAAA 2001:db8::1"], "b.example": ["A 192.0.2.2"]}
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", "b.example", "*.c.example"))
        found = await told(bus, {"a.example": ["192.0.2.1", "2001:db8::1"], "b.example": ["192.0.2.2"]}, within_s=20.0)
    assert (found.route_id, found.revision) == ("r1", 7)
    assert {name for name, _ in dns_server.asked} == {"a.example", "b.example"}


async def test_a_route_of_before_the_start_is_resolved_too(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    await publish(bus, "g.g1", 7, domain_route("a.example"))
    async with resolver(bus, dns_server):
        await told(bus, {"a.example": ["192.0.2.1"]})


async def test_the_same_route_for_several_audiences_is_one_fact(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "end.example": ["A 192.0.2.9"]}
    for audience in ("g.g1", "g.g2", "p.p1"):
        await publish(bus, audience, 7, domain_route("a.example"))
    async with resolver(bus, dns_server):
        await told(bus, {"a.example": ["192.0.2.1"]})
        await publish(bus, "g.g1", 8, domain_route("end.example", route="r2"), route="r2")
        await told(bus, {"end.example": ["192.0.2.9"]}, route="r2")
        assert await facts_ever(bus) == 2
        assert dns_server.asked["a.example", "A"] == 1


async def test_a_route_ends_with_its_last_tombstone(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "end.example": ["A 192.0.2.9"]}
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await publish(bus, "p.p1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
        await publish(bus, "g.g1", 8, Tombstone())
        await publish(bus, "g.g1", 8, domain_route("end.example", route="r2"), route="r2")
        await told(bus, {"end.example": ["192.0.2.9"]}, route="r2")
        assert addresses(await fact(bus)) == {"a.example": ["192.0.2.1"]}
        await publish(bus, "p.p1", 9, Tombstone())
        assert (await told(bus, {})).revision == 9


async def test_a_route_that_ended_while_the_resolver_was_away_ends(
    bus: Bus, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WITHDRAW_AFTER_S", 0.2)
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    await publish(bus, "g.g1", 7, domain_route("a.example"))
    async with resolver(bus, dns_server):
        await told(bus, {"a.example": ["192.0.2.1"]})
    await publish(bus, "g.g1", 8, Tombstone())
    async with resolver(bus, dns_server):
        await told(bus, {})


async def test_r1_without_keep_route_the_newest_answer_replaces_and_a_failure_does_not(
    bus: Bus, dns_server: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "b.example": ["A 192.0.2.8"]}
    async with resolver(bus, dns_server, interval_s=FASTEST_S):
        await publish(bus, "g.g1", 7, domain_route("a.example", "b.example"))
        await told(bus, {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.8"]})
        dns_server.zone = {"a.example": ["A 192.0.2.2"], "b.example": SERVFAIL}
        await told(bus, {"a.example": ["192.0.2.2"], "b.example": ["192.0.2.8"]})


async def test_r1_with_keep_route_addresses_add_up_also_over_a_restart(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    await publish(bus, "g.g1", 7, domain_route("a.example", keep=True))
    async with resolver(bus, dns_server, interval_s=FASTEST_S):
        await told(bus, {"a.example": ["192.0.2.1"]})
        dns_server.zone = {"a.example": ["A 192.0.2.2", "AAAA 2001:db8::1"]}
        found = await told(bus, {"a.example": ["192.0.2.1", "192.0.2.2", "2001:db8::1"]})
        first, second, third = found.names[0].addresses
        assert (first.expires_at - first.last_seen, second.expires_at, third.expires_at) == (604_800.0, 0.0, 0.0)
    dns_server.zone = {"a.example": ["A 192.0.2.3"]}
    async with resolver(bus, dns_server):
        await told(bus, {"a.example": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]})


async def test_d6_a_name_is_asked_for_again_and_the_same_answer_is_not_written_again(
    bus: Bus, dns_server: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    async with resolver(bus, dns_server, interval_s=FASTEST_S):
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
        await eventually(asked_again(dns_server, "a.example", 3))
        assert await facts_ever(bus) == 1


async def test_d7_a_name_that_never_answers_delays_no_other(bus: Bus, dns_server: DnsServer) -> None:
    """Each of them is waited for 5 s: what is told before has not waited for one."""
    bad = [f"bad{number}.example" for number in range(31)]
    dns_server.zone = {"good.example": ["A 192.0.2.1"], **dict.fromkeys(bad, SILENCE)}
    async with resolver(bus, dns_server, interval_s=FASTEST_S):
        await publish(bus, "g.g1", 7, domain_route(*bad, "good.example"))
        await told(bus, {"good.example": ["192.0.2.1"]}, within_s=4.5)
        dns_server.zone["good.example"] = ["A 192.0.2.2"]
        await told(bus, {"good.example": ["192.0.2.2"]}, within_s=FASTEST_S + 2.5)


async def test_an_accounts_own_servers_are_asked_from_the_start_and_the_fact_says_which_answered(
    bus: Bus, dns_server: DnsServer
) -> None:
    """Nobody else hears of the account's names, also when the resolver starts."""
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    own = DnsServer()
    own.zone = {"a.example": ["A 192.0.2.9"]}
    await own.start("127.0.0.1")
    host, _, port = own.address.rpartition(":")
    document = ResolvingDoc(servers=(UpstreamServer(host, int(port)),))
    subject = subjects.feed(FeedKey(ACCOUNT, subjects.RESOLVER_AUDIENCE, "resolving", SETTINGS_ID))
    try:
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await bus.management.jetstream().publish(subject, encode(FeedMessage(7, document)))
        async with resolver(bus, dns_server):
            found = await told(bus, {"a.example": ["192.0.2.9"]})
            assert (found.names[0].source, dns_server.asked.total()) == (own.address, 0)
            await bus.management.jetstream().publish(subject, encode(FeedMessage(8, Tombstone())))
            found = await told(bus, {"a.example": ["192.0.2.1"]})
            assert found.names[0].source == dns_server.address
    finally:
        own.stop()


async def test_d7_an_account_whose_servers_are_dead_delays_no_other(bus: Bus, dns_server: DnsServer) -> None:
    """A silent name occupies a lane for 5 s: in 48 lanes 480 of them take 50 s."""
    bad = [f"bad{number}.example" for number in range(480)]
    dead = DnsServer()
    dead.zone = dict.fromkeys(bad, SILENCE)
    await dead.start("127.0.0.1")
    host, _, port = dead.address.rpartition(":")
    document = ResolvingDoc(servers=(UpstreamServer(host, int(port)),))
    dns_server.zone = {"good.example": ["A 192.0.2.1"]}
    try:
        for key, message in (
            (FeedKey("poor", subjects.RESOLVER_AUDIENCE, "resolving", SETTINGS_ID), document),
            (FeedKey("poor", "g.g1", "route", "r9"), domain_route(*bad, route="r9")),
        ):
            await bus.management.jetstream().publish(subjects.feed(key), encode(FeedMessage(7, message)))
        async with resolver(bus, dns_server):
            await eventually(lambda: dead.asked.total() >= 90)
            await publish(bus, "g.g1", 8, domain_route("good.example"))
            await told(bus, {"good.example": ["192.0.2.1"]}, within_s=4.5)
    finally:
        dead.stop()


async def test_the_streams_may_come_later(bare_bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    async with resolver(bare_bus, dns_server):
        await bare_bus.make_streams()
        await publish(bare_bus, "g.g1", 7, domain_route("a.example"))
        await told(bare_bus, {"a.example": ["192.0.2.1"]}, within_s=20.0)


async def test_resolving_goes_on_after_a_restart_of_the_bus(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "b.example": ["A 192.0.2.2"]}
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
        await bus.restart()
        await eventually(lambda: bus.management.is_connected, within_s=30.0)
        await publish(bus, "g.g1", 8, domain_route("b.example"))
        await told(bus, {"b.example": ["192.0.2.2"]}, within_s=30.0)


async def test_r1_a_feed_that_lost_a_route_ends_nothing_of_it_until_it_is_written_again(
    bus: Bus, dns_server: DnsServer
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "b.example": ["A 192.0.2.2"]}
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 7, domain_route("a.example", keep=True))
        await told(bus, {"a.example": ["192.0.2.1"]})
    await empty(bus, "FEED")
    dns_server.zone["a.example"] = ["A 192.0.2.3"]
    async with resolver(bus, dns_server):
        await publish(bus, "g.g1", 8, domain_route("b.example", route="r2"), route="r2")
        await told(bus, {"b.example": ["192.0.2.2"]}, route="r2")
        assert addresses(await fact(bus)) == {"a.example": ["192.0.2.1"]}
        await publish(bus, "g.g1", 7, domain_route("a.example", keep=True))
        await told(bus, {"a.example": ["192.0.2.1", "192.0.2.3"]})
        await empty(bus, "FEED")
        dns_server.zone["c.example"] = ["A 192.0.2.4"]
        await publish(bus, "g.g1", 8, domain_route("c.example", route="r3"), route="r3")
        await told(bus, {"c.example": ["192.0.2.4"]}, route="r3")
        assert addresses(await fact(bus)) == {"a.example": ["192.0.2.1", "192.0.2.3"]}


async def test_facts_that_the_bus_lost_are_written_again(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {f"{n}.example": [f"A 192.0.2.{n}"] for n in range(1, 21)}
    async with resolver(bus, dns_server):
        for n in range(1, 21):
            await publish(bus, "g.g1", 7, domain_route(f"{n}.example", route=f"r{n}"), route=f"r{n}")
            await told(bus, {f"{n}.example": [f"192.0.2.{n}"]}, route=f"r{n}")
        await break_off(bus, "FACTS")
        assert (await bus.management.jetstream().stream_info("FACTS")).state.messages < 20
        for n in range(1, 21):
            await told(bus, {f"{n}.example": [f"192.0.2.{n}"]}, route=f"r{n}")


async def test_what_cannot_be_decoded_is_counted_and_the_resolver_goes_on(bus: Bus, dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    before = undecodable()
    async with resolver(bus, dns_server):
        await bus.management.jetstream().publish(subjects.feed(FeedKey(ACCOUNT, "g.g1", "route", "bad")), b"\xc1")
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
    assert undecodable() == before + 1
