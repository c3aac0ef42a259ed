"""From the API's answer to both kernels, over 200 changes in the lab; and what the agents weigh.

Reference in the same run: what `ip` and `nft` processes take for one route and one table in these hosts, which is what
a change costs at least when it is made by starting programs.
"""

import os
import time
from pathlib import Path

import psutil

from deploy.lab.lab import Lab, LabFailed
from deploy.lab.netns import run
from deploy.lab.scenario import Scenario
from deploy.lab.topology import LAN_V4
from tests.bench.figures import Figure, figure

CHANGES = 200
REFERENCES = 20


def measure(changes: int = CHANGES) -> list[Figure]:
    """Build a lab of its own, switch its route off and on, and remove the lab."""
    lab = Lab(f"bench{os.getpid()}")
    try:
        lab.build()
        scenario = Scenario(lab)
        for _, step in scenario.steps()[:2]:
            step()
        return [*_changes(scenario, changes), *_reference(lab), *_memory(lab)]
    finally:
        lab.stop()
        lab.remove()


def _changes(scenario: Scenario, changes: int) -> list[Figure]:
    both, client, gateway, api = [], [], [], []
    for number in range(changes):
        enabled = number % 2 == 1
        waiting = scenario.watch_installed(LAN_V4) if enabled else scenario.watch_gone(LAN_V4)
        begin = time.perf_counter()
        scenario.put_route(LAN_V4, enabled=enabled)
        api.append((scenario.lab.api.answered_at - begin) * 1000)
        moments = [future.result() for _, future in waiting]
        after = [(m - scenario.lab.api.answered_at) * 1000 for m in moments if m is not None]
        if len(after) != len(moments):
            raise LabFailed(f"change {number} did not reach both kernels")
        client.append(after[0])
        gateway.append(after[1])
        both.append(max(after))
    return [
        figure("API answer → client route and gateway permits", "ms", both, "p50 ≤ 50, p99 ≤ 250"),
        figure("API answer → client kernel route", "ms", client),
        figure("API answer → gateway permits", "ms", gateway),
        figure("API request → answer (commit, fold, read model)", "ms", api),
    ]


def _reference(lab: Lab) -> list[Figure]:
    took = []
    table = Path(lab.directory / "reference.nft")
    table.write_text(
        "table inet reference {\n set s { type ipv4_addr; flags interval; elements = { 198.51.100.0/24 } }\n}\n"
    )
    for _ in range(REFERENCES):
        begin = time.perf_counter()
        lab.topology.client.ip("route", "replace", "198.51.100.0/24", "dev", "eth0", "table", "99")
        run(*lab.topology.gateway.command(["nft", "-f", str(table)]))
        took.append((time.perf_counter() - begin) * 1000)
        lab.topology.client.ip("route", "flush", "table", "99")
        run(*lab.topology.gateway.command(["nft", "delete", "table", "inet", "reference"]))
    return [figure("reference: one `ip route` and one `nft -f` process", "ms", took)]


def _memory(lab: Lab) -> list[Figure]:
    figures = []
    for host in ("client", "gateway"):
        for pid in lab.topology.hosts[host].processes():
            process = psutil.Process(pid)
            if "services.agent" in " ".join(process.cmdline()):
                size = process.memory_info().rss / 1024**2
                figures.append(figure(f"resident memory of the agent on {host}", "MB", [size], "≤ 60"))
    return figures
