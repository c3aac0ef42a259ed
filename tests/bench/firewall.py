"""What the nftables table costs: a packet through a gateway with and without its counters, and a pass of the agent that
writes 10,000 permits, beside nft itself. As root, in network namespaces, without WireGuard."""

import asyncio
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.netns import Namespace, connect
from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import Elements, change, shape
from services.agent.core.kernel import NFT_TABLE, Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.drivers.nft import Nft
from services.agent.drivers.nft_text import replace_script
from tests.bench.figures import Figure, figure
from tests.unit.agent import make
from tests.unit.agent.make import permit, ports, rule, served

ALICE, GATEWAY, LAN_HOST = "100.64.0.11", "100.64.0.1", "192.0.2.9"
ROUTES, PERMITS = 1000, 10
PACKETS, ROUNDS = 20_000, 15


def gateway() -> Documents:
    """A gateway of 1,000 routes with 10 permits of different sources each; Alice may have the last port of one more."""
    peers = [make.peer(f"p{number}", f"g{number}", number=20 + number) for number in range(PERMITS)]
    lan = [permit(f"lan{number}", "staff", protocol="udp", ports=ports(9000 + 2 * number)) for number in range(PERMITS)]
    routes = [
        served(
            f"r{number}",
            f"10.{number // 250}.{number % 250}.0/24",
            *(permit(f"q{each}", f"g{each}", protocol="tcp", ports=ports(1 + number)) for each in range(PERMITS)),
        )
        for number in range(ROUTES)
    ]
    return make.documents(
        make.me("me"),
        [make.peer("alice", "staff", v4=ALICE), *peers],
        rules=[rule("everybody", protocol="icmp")],
        routes=[served("lan", "192.0.2.0/24", *lan, masquerade=False), *routes],
    )


def table(documents: Documents) -> Ruleset:
    found = desired(documents, make.local()).ruleset
    assert found is not None
    return found


@contextmanager
def hosts(*names: str) -> Iterator[list[Namespace]]:
    with tempfile.TemporaryDirectory() as folder:
        made = [Namespace(f"wbb-{name}", Path(folder, name)) for name in names]
        try:
            for one in made:
                one.create()
            yield made
        finally:
            for one in made:
                one.remove()


def measure() -> list[Figure]:
    """Each figure beside its reference of the same run, taken in turns."""
    return [*packets(), *passes()]


def packets() -> list[Figure]:
    """Microseconds a datagram from the tunnel into the LAN, the sender's part included."""
    with hosts("alice", "gateway", "lan") as (alice, gate, lan):
        connect(gate, "wt0", alice, "wt0")
        connect(gate, "lan0", lan, "lan0")
        for host, device, address in (
            (alice, "wt0", f"{ALICE}/16"),
            (gate, "wt0", f"{GATEWAY}/16"),
            (gate, "lan0", "192.0.2.1/24"),
            (lan, "lan0", f"{LAN_HOST}/24"),
        ):
            host.ip("address", "add", address, "dev", device)
        alice.ip("route", "add", "default", "via", GATEWAY)
        lan.ip("route", "add", "default", "via", "192.0.2.1")
        gate.call(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        script = replace_script(NFT_TABLE, wanted := table(gateway()), shape(wanted))
        tables = {
            "no table": f"add table inet {NFT_TABLE}\ndelete table inet {NFT_TABLE}\n",
            "the table without counters": re.sub(r"counter packets \d+ bytes \d+ ", "", script),
            "the table": script,
        }
        with lan.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind((LAN_HOST, 9000 + 2 * PERMITS - 2))
            took: dict[str, list[float]] = {name: [] for name in tables}
            for _ in range(ROUNDS):
                for name, text in tables.items():
                    subprocess.run(gate.command(["nft", "-f", "-"]), input=text, text=True, check=True)
                    took[name].append(alice.call(_send, sink.getsockname()))
    return [figure(f"a packet through a gateway with {name}", "us", values) for name, values in took.items()]


def _send(to: tuple[str, int]) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(to)
        sender.send(b"the connection is there before it counts")
        began = time.perf_counter()
        for _ in range(PACKETS):
            sender.send(b"x")
        return (time.perf_counter() - began) / PACKETS * 1e6


def passes() -> list[Figure]:
    """A whole pass that writes the table, and one that changes an element of it."""
    with hosts("gateway") as (gate,):
        took = gate.call(asyncio.run, _passes())
    return [figure(name, "ms", values) for name, values in took.items()]


async def _passes() -> dict[str, list[float]]:
    nft, there = Nft(), gateway()
    fewer = make.documents(
        there.self_doc, there.peers.values(), rules=there.rules.values(), routes=list(there.routes.values())[1:]
    )
    took: dict[str, list[float]] = {
        "nft -f of 10,000 permits": [],
        "a pass that writes 10,000 permits": [],
        "a pass that takes a route out of them": [],
        "reading the counters of them": [],
    }
    wanted = table(there)
    script = replace_script(NFT_TABLE, wanted, shape(wanted))
    for _ in range(ROUNDS // 3):
        began = time.perf_counter()
        await asyncio.to_thread(subprocess.run, ["nft", "-f", "-"], input=script, text=True, check=True)
        took["nft -f of 10,000 permits"].append(time.perf_counter() - began)
        await nft.destroy()
        for name, documents in (
            ("a pass that writes 10,000 permits", there),
            ("a pass that takes a route out of them", fewer),
        ):
            began = time.perf_counter()
            await _pass(nft, documents)
            took[name].append(time.perf_counter() - began)
        began = time.perf_counter()
        await nft.counts()
        took["reading the counters of them"].append(time.perf_counter() - began)
    return {name: [1000 * one for one in values] for name, values in took.items()}


async def _pass(nft: Nft, documents: Documents) -> None:
    wanted = table(documents)
    step = change(wanted, await nft.observe())
    if isinstance(step, Elements):
        assert await nft.change(step.add, step.remove, step.shape, step.anew) is None
    else:
        assert await nft.replace(wanted) is None
    assert change(wanted, await nft.observe()) is None
