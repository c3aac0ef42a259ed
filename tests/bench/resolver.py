"""What 10,000 names, each asked for every 60 s, cost one replica of the resolver, beside dnspython's own resolver.

A process of its own is the DNS server: it answers at once and notes when it was asked for what. `python -m
tests.bench.resolver` is that process.
"""

import asyncio
import itertools
import json
import os
import resource
import socket
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.nameserver
import uvloop

from shared.bus.codec import encode
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import FACTS, ensure_streams
from shared.events import subjects
from shared.events.documents import FeedMessage, RouteDoc
from shared.events.subjects import FeedKey
from tests.bench.figures import Figure, figure
from tests.support.bus import eventually

ROOT = Path(__file__).parents[2]
NAMES, PER_ROUTE = 10_000, 32
INTERVAL_S = 60.0
ROUNDS = 2
"""Intervals that are measured, after the first questions."""

WITHIN_S = 120.0
AT_ONCE = 192
"""Names that the reference asks for at once."""

_TICKS = os.sysconf("SC_CLK_TCK")


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder:
        return uvloop.run(_measure(Path(folder)))


async def _measure(directory: Path) -> list[Figure]:
    keys = credentials(directory / "keys")
    bus = NatsServer(directory / "bus", keys)
    await bus.start()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.resolver"), cwd=ROOT, stdin=-1, stdout=-1
    )
    assert server.stdin is not None
    assert server.stdout is not None
    address = (await server.stdout.readline()).decode().strip()
    options = (f"--bus={bus.url}", f"--credentials={directory / 'keys' / 'resolver.nk'}", f"--dns-servers={address}")
    own = await connect(bus.url, keys.management, "management")
    try:
        await ensure_streams(own.jetstream())
        names = [f"n{number}.example" for number in range(NAMES)]
        for number, start in enumerate(range(0, NAMES, PER_ROUTE)):
            subject = subjects.feed(FeedKey("acc", "g.g1", "route", f"r{number}"))
            route = _route(f"r{number}", names[start : start + PER_ROUTE])
            await own.jetstream().publish(subject, encode(FeedMessage(number + 1, route)))
        replica = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.resolver", *options, f"--dns-router-interval={INTERVAL_S}"),
            cwd=ROOT,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            began_at = time.monotonic()
            routes = -(-NAMES // PER_ROUTE)
            await eventually(lambda: _stored(own, routes + 1), within_s=WITHIN_S)
            first_s, first_cpu_s = time.monotonic() - began_at, _cpu_s(replica.pid)
            await asyncio.sleep(ROUNDS * INTERVAL_S)
            later_cpu_s = _cpu_s(replica.pid) - first_cpu_s
            memory = _memory_mb(replica.pid)
        finally:
            replica.terminate()
            await replica.wait()
        reference_s = await _reference(address, [f"r{number}.example" for number in range(NAMES)])
        server.stdin.write(b"\n")
        gaps = json.loads(await server.stdout.read())
    finally:
        if server.returncode is None:
            server.kill()
        await server.wait()
        await own.close()
        await bus.stop()
    asked = sum(map(len, gaps.values())) / 2
    return [
        figure("resolver: start to all facts of 10,000 names", "s", [first_s]),
        figure("resolver: CPU of one replica, steady", "% of a core", [100 * later_cpu_s / (ROUNDS * INTERVAL_S)]),
        figure("resolver: CPU of a name, both families, steady", "ms", [1000 * later_cpu_s / asked]),
        figure("reference: the same by dnspython's resolver", "ms", [1000 * reference_s / NAMES]),
        figure("resolver: resident", "MB", [memory]),
        figure("resolver: between two questions for a name", "s", [gap for one in gaps.values() for gap in one]),
    ]


def _route(route: str, names: list[str]) -> RouteDoc:
    return RouteDoc(
        route_id=route,
        network_id=route,
        network="",
        domains=tuple(names),
        metric=9999,
        masquerade=True,
        keep_route=False,
        skip_auto_apply=False,
        routing_peers=(),
        distribution=("g1",),
        permits=None,
    )


async def _stored(own: Any, messages: int) -> bool:
    return bool((await own.jetstream().stream_info(FACTS)).state.messages >= messages)


async def _reference(address: str, names: list[str]) -> float:
    """CPU seconds of this process for every name once, both families."""
    host, _, port = address.rpartition(":")
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(host, int(port))]
    lanes = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str) -> None:
        async with lanes:
            await asyncio.gather(*(resolver.resolve(f"{name}.", family, search=False) for family in ("A", "AAAA")))

    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*map(ask, names))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def serve() -> None:
    """Answer every question with an address until a line comes in; then print the seconds between those for the same,
    by question, and end."""
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024**2)
    own.bind(("127.0.0.1", 0))
    print("{}:{}".format(*own.getsockname()), flush=True)
    asked: defaultdict[bytes, list[float]] = defaultdict(list)
    loop = asyncio.new_event_loop()

    def answer() -> None:
        query, asker = own.recvfrom(2048)
        question = query[12 : query.index(b"\0", 12) + 5]
        asked[question].append(time.monotonic())
        kind = question[-4:-2]
        data = b"\xc0\x00\x02\x01" if kind == b"\x00\x01" else b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"
        record = b"\xc0\x0c" + question[-4:] + b"\x00\x00\x01\x2c" + len(data).to_bytes(2, "big") + data
        own.sendto(query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question + record, asker)

    def tell() -> None:
        sys.stdin.readline()
        gaps = {
            question.hex(): [after - before for before, after in itertools.pairwise(times)]
            for question, times in asked.items()
        }
        print(json.dumps(gaps), flush=True)
        loop.stop()

    loop.add_reader(own, answer)
    loop.add_reader(sys.stdin, tell)
    loop.run_forever()


if __name__ == "__main__":
    serve()
