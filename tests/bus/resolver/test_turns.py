"""Replicas of the resolver as processes: one resolves, and another goes on where it was lost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.events import subjects
from tests.bus.resolver.test_service import addresses, domain_route, fact, publish, told
from tests.support.bus import Bus, eventually, freeze
from tests.support.damage import empty
from tests.support.dns import DnsServer

TAKEOVER_S = 5.0
"""Acceptance: names are asked for again this long after a kill -9."""

NAMES = [f"n{number}.example" for number in range(50)]
TO_RESOLVE = "this replica resolves"


class Replica:
    """A resolver's process."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process = process
        self._output = output

    def said(self, words: str) -> int:
        return self._output.read_text().count(words)

    def resolves(self) -> bool:
        return self.said(TO_RESOLVE) > self.said("another replica resolves")


@asynccontextmanager
async def replica(bus: Bus, dns_server: DnsServer, output: Path) -> AsyncIterator[Replica]:
    options = {"bus": bus.url, "credentials": bus.seeds / "resolver.nk", "dns-servers": dns_server.address}
    arguments = (f"--{name}={value}" for name, value in options.items())
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.resolver", *arguments, "--dns-router-interval=2", "--log-format=json"),
            stderr=file,
        )
    try:
        yield Replica(process, output)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def two(bus: Bus, dns_server: DnsServer, directory: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """The one that resolves, and one that stands by and has read everything."""
    async with replica(bus, dns_server, directory / "first") as first:
        await eventually(first.resolves)
        async with replica(bus, dns_server, directory / "second") as second:
            await eventually(lambda: reading(bus, 2))
            yield first, second


async def reading(bus: Bus, replicas: int) -> bool:
    """Whether so many replicas follow FEED: each has two readers there."""
    return (await bus.management.jetstream().stream_info("FEED")).state.consumer_count == 2 * replicas


async def test_of_two_replicas_one_asks_for_each_name(bus: Bus, dns_server: DnsServer, tmp_path: Path) -> None:
    dns_server.zone = {name: ["A 192.0.2.1"] for name in NAMES}
    await publish(bus, "g.g1", 7, domain_route(*NAMES))
    async with two(bus, dns_server, tmp_path) as (_, second):
        await told(bus, {name: ["192.0.2.1"] for name in NAMES})
        dns_server.asked.clear()
        began_at = asyncio.get_running_loop().time()
        await eventually(lambda: all(dns_server.asked[name, "A"] >= 3 for name in NAMES))
        rounds = (asyncio.get_running_loop().time() - began_at) / 2.0 + 1
        assert max(dns_server.asked.values()) <= rounds
        assert not second.resolves()


async def test_after_a_kill_the_other_asks_within_5_s_and_nothing_that_was_kept_is_lost(
    bus: Bus, dns_server: DnsServer, tmp_path: Path
) -> None:
    """R1: with keep_route what the killed one saw is kept, and what is new is added."""
    dns_server.zone = {name: ["A 192.0.2.1"] for name in NAMES}
    await publish(bus, "g.g1", 7, domain_route(*NAMES, keep=True))
    async with two(bus, dns_server, tmp_path) as (first, second):
        await told(bus, {name: ["192.0.2.1"] for name in NAMES})
        dns_server.zone = {name: ["A 192.0.2.2"] for name in NAMES}
        await told(bus, {name: ["192.0.2.1", "192.0.2.2"] for name in NAMES})
        first.process.kill()
        await first.process.wait()
        dns_server.zone = {name: ["A 192.0.2.3"] for name in NAMES}
        dns_server.asked.clear()
        await eventually(lambda: all(dns_server.asked[name, "A"] for name in NAMES), within_s=TAKEOVER_S)
        assert second.resolves()
        await told(bus, {name: ["192.0.2.1", "192.0.2.2", "192.0.2.3"] for name in NAMES})


async def test_one_that_stops_hands_over_at_once(bus: Bus, dns_server: DnsServer, tmp_path: Path) -> None:
    async with two(bus, dns_server, tmp_path) as (first, second):
        first.process.terminate()
        assert await first.process.wait() == 0
        await eventually(second.resolves, within_s=2.0)


async def test_one_that_was_frozen_leaves_the_turn_to_the_other_when_it_goes_on(
    bus: Bus, dns_server: DnsServer, tmp_path: Path
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"], "b.example": ["A 192.0.2.2"]}
    async with two(bus, dns_server, tmp_path) as (first, second):
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
        freeze(first.process.pid)
        try:
            await eventually(second.resolves, within_s=TAKEOVER_S)
            await publish(bus, "g.g1", 8, domain_route("b.example"))
            await told(bus, {"b.example": ["192.0.2.2"]})
        finally:
            os.kill(first.process.pid, signal.SIGCONT)
        await eventually(lambda: not first.resolves())
        assert second.resolves()
        assert addresses(await fact(bus)) == {"b.example": ["192.0.2.2"]}


async def test_the_turn_goes_on_after_the_bus_lost_what_it_is_told_by(
    bus: Bus, dns_server: DnsServer, tmp_path: Path
) -> None:
    async with two(bus, dns_server, tmp_path) as (first, second):
        await empty(bus, "FACTS")
        await eventually(lambda: holds_the_turn(bus))
        first.process.kill()
        await eventually(second.resolves, within_s=TAKEOVER_S)


async def test_the_turn_goes_on_after_a_restart_of_the_bus(bus: Bus, dns_server: DnsServer, tmp_path: Path) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    async with two(bus, dns_server, tmp_path) as (first, second):
        await bus.restart()
        await eventually(lambda: bus.management.is_connected)
        await publish(bus, "g.g1", 7, domain_route("a.example"))
        await told(bus, {"a.example": ["192.0.2.1"]})
        await eventually(lambda: first.resolves() != second.resolves())


async def holds_the_turn(bus: Bus) -> bool:
    info = await bus.management.jetstream().stream_info("FACTS", subjects_filter=subjects.RESOLVERS_TURN)
    return bool(info.state.subjects)
