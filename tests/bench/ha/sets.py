"""What 200 HA sets with 8 candidates each cost a client: CPU of the parts that probe and choose.

A kernel answers for all of the overlay, over a cable that is called as the overlay's interface is. All sets share 8
gateways, or each has 8 of its own; their tunnels carry packets, or nobody sends any. Reference: as many questions sent
and answers heard by hand.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.netns import Namespace, address, connect
from services.agent.asking import Asking
from services.agent.choosing import Choosing
from services.agent.core.documents import Documents
from services.agent.core.ha.echo import Echo
from services.agent.core.kernel import INTERFACE, PROBE_IDENTIFIER, PeerStats
from services.agent.drivers.icmp import Icmp
from services.agent.probes import Probes
from services.agent.situation import Bus, Situation, Tunnels
from tests.bench.figures import Figure, figure
from tests.unit.agent import make

SETS, CANDIDATES = 200, 8
WARM_S, LOAD_S = 5.0, 20.0
OVERLAY, THERE = "100.64.0.0/10", "100.127.255.254"


def many_sets() -> list[Figure]:
    """Percent of a core."""
    rows = []
    with _world() as client:
        for title, gateways in (("that share 8 gateways", CANDIDATES), ("of 8 gateways each", SETS * CANDIDATES)):
            for state, carries in (("carry packets", True), ("carry none", False)):
                taken, asked = client.call(asyncio.run, _measured(gateways, carries=carries))
                name = f"{SETS} HA sets {title} and {state}"
                rows.append(figure(name, "% of a core", [100 * taken / LOAD_S], "≤ 1"))
                rows.append(figure("questions", "a second", [asked / LOAD_S]))
                by_hand = client.call(asyncio.run, _by_hand(asked))
                rows.append(figure("reference: as many by hand", "% of a core", [100 * by_hand / LOAD_S]))
    return rows


@contextmanager
def _world() -> Iterator[Namespace]:
    """A client whose overlay is one kernel that has all of its addresses."""
    with tempfile.TemporaryDirectory() as folder:
        client, there = (Namespace(f"wbb-{name}", Path(folder, name)) for name in ("client", "there"))
        try:
            client.create()
            there.create()
            connect(client, INTERFACE, there, "eth0")
            address(client, INTERFACE, "100.64.0.1/32")
            client.ip("route", "add", THERE, "dev", INTERFACE)
            client.ip("route", "add", OVERLAY, "via", THERE, "dev", INTERFACE)
            there.ip("route", "add", "local", OVERLAY, "dev", "lo")
            there.ip("route", "add", "100.64.0.1", "dev", "eth0", "table", "1")
            there.ip("rule", "add", "priority", "0", "to", "100.64.0.1", "table", "1")
            yield client
        finally:
            client.remove()
            there.remove()


def _documents(gateways: int) -> Documents:
    peers = [make.peer(f"gw{n}", v4=f"100.65.{n // 250}.{1 + n % 250}", v6="") for n in range(gateways)]
    routes = [
        make.route(
            f"r{number}-{place}",
            f"10.{number // 250}.{number % 250}.0/24",
            by=f"gw{(number * CANDIDATES + place) % gateways}",
            network_id=f"n{number}",
            metric=100 + place,
        )
        for number in range(SETS)
        for place in range(CANDIDATES)
    ]
    return make.documents(make.me(v4="100.64.0.1", v6=""), peers, routes=routes)


async def _measured(gateways: int, *, carries: bool) -> tuple[float, int]:
    """CPU seconds of LOAD_S, and how many questions were asked in them."""
    situation = Situation(make.local(), _documents(gateways))
    documents = situation.documents.value
    assert documents is not None
    keys = [peer.wireguard_key for peer in documents.peers.values()]
    asking = Asking("bench", PROBE_IDENTIFIER, Icmp(PROBE_IDENTIFIER, INTERFACE))
    choosing = Choosing(situation)
    situation.bus.set(Bus(standing="connected", sessions=1))
    situation.tunnels.set(Tunnels(connected=frozenset(keys)))
    choosing.begin()
    counting = asyncio.create_task(_count(situation, keys, 10_000 if carries else 0))
    tasks = [counting, *(asyncio.create_task(part.run()) for part in (choosing, Probes(situation, asking)))]
    await asyncio.sleep(WARM_S)
    began, asked = time.process_time(), sum(asking.asked.values())
    await asyncio.sleep(LOAD_S)
    taken, asked = time.process_time() - began, sum(asking.asked.values()) - asked
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(situation.decisions.value) == SETS
    return taken, asked


async def _count(situation: Situation, keys: list[str], each: int) -> None:
    """What a device with that much traffic counts, read once a second as the agent reads it."""
    sent = 0
    while True:
        sent += each
        stats = PeerStats(endpoint="192.0.2.1:51820", last_handshake=1.0, rx_bytes=sent, tx_bytes=sent)
        situation.counters.set(dict.fromkeys(keys, stats))
        await asyncio.sleep(1.0)


async def _by_hand(questions: int) -> float:
    """CPU seconds of so many questions and answers, evenly over LOAD_S."""
    icmp, echo = Icmp(PROBE_IDENTIFIER, INTERFACE), Echo(b"s" * 32, PROBE_IDENTIFIER)
    loop = asyncio.get_running_loop()
    for descriptor in icmp.filenos():
        loop.add_reader(descriptor, icmp.read)
    began, sent = time.process_time(), 0
    end = time.monotonic() + LOAD_S
    while (left := end - time.monotonic()) > 0:
        due = round(questions * (1 - left / LOAD_S))
        for number in range(sent, due):
            icmp.send("100.65.0.1", echo.question("100.65.0.1", number))
        sent = max(sent, due)
        await asyncio.sleep(0.02)
    for descriptor in icmp.filenos():
        loop.remove_reader(descriptor)
    icmp.close()
    return time.process_time() - began
