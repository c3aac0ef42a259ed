"""What being watched costs: an idle client on its underlay, a gateway with many clients, a client with many HA sets."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from deploy.lab.filters import load, unload
from deploy.lab.ha.stage import Stage
from deploy.lab.netns import run
from deploy.lab.processes import running
from deploy.lab.topology import underlay_address
from tests.bench.figures import Figure, figure

MINUTE_S = 60.0
REST_S = 5.0
IDLE_AFTER_S = 20.0
"""A tunnel counts as one that carries packets for 10 s after the last one; until then more questions are asked."""
COUNT = "whimbrel-lab-count"
CLIENTS, EACH_S = 1000, 0.2
LOAD_S = 20.0


def idle_client(stage: Stage) -> list[Figure]:
    """Frames that the client sends in a minute in which nobody wants anything of it."""
    underlay = stage.lab.topology.underlay
    with _without_pulse(stage):
        time.sleep(IDLE_AFTER_S)
        load(
            underlay,
            "netdev",
            COUNT,
            'type filter hook ingress device "client" priority 0',
            "meta l4proto udp counter",
            "meta l4proto tcp counter",
            "counter",
        )
        try:
            time.sleep(MINUTE_S)
            listed = json.loads(run(*underlay.command(["nft", "-j", "list", "table", "netdev", COUNT])))
        finally:
            unload(underlay, "netdev", COUNT)
    rules = [one["rule"] for one in listed["nftables"] if "rule" in one]
    tunnel, bus, everything = (next(e["counter"] for e in rule["expr"] if "counter" in e) for rule in rules)
    return [
        figure(
            f"an idle client with {len(stage.gateways)} gateways: datagrams of WireGuard",
            "a minute",
            [tunnel["packets"]],
        ),
        figure("their bytes", "a minute", [tunnel["bytes"]]),
        figure("reference: segments to the bus", "a minute", [bus["packets"]]),
        figure("reference: all frames", "a minute", [everything["packets"]]),
    ]


def many_clients(stage: Stage) -> list[Figure]:
    """Echo requests of CLIENTS clients, through one tunnel: what the gateway's kernel and wireguard-go take to answer.

    Reference: the same to its underlay address, without a tunnel, and nothing at all. The machine's figures hold what
    the senders take as well.
    """
    name = stage.carrier()
    (wireguard,) = running(stage.host(name), "wireguard-go")
    (agent,) = running(stage.host(name), "services.agent")
    rows, overlay = [], stage.overlay(name)
    with _without_pulse(stage):
        for what, target in (("at rest", ""), ("over the bare underlay", underlay_address(name)), ("", overlay)):
            with _echoes(stage, target) as echoes:
                time.sleep(REST_S)
                before = _cpu_s(wireguard), _cpu_s(agent), _machine_s()
                time.sleep(LOAD_S)
                after = _cpu_s(wireguard), _cpu_s(agent), _machine_s()
            percents = [100 * (b - a) / LOAD_S for a, b in zip(before, after, strict=True)]
            title = (
                f"{CLIENTS:,} clients that ask {1 / EACH_S:.0f} times a second" if not what else f"reference: {what}"
            )
            rows += [
                figure(f"{title}: the gateway's wireguard-go", "% of a core", percents[:1]),
                figure("its agent", "% of a core", percents[1:2]),
                figure("the whole machine, with those who ask", "% of a core", percents[2:]),
            ]
            if target:
                rows.append(figure("answered", "%", [echoes()]))
    return rows


@contextmanager
def _echoes(stage: Stage, target: str) -> Iterator[Callable[[], float]]:
    """Meanwhile the client asks the target; "" for nobody. The call gives how many percent were answered."""
    if not target:
        yield lambda: 0.0
        return
    words = (sys.executable, "-m", "tests.bench.ha.echoes", target, str(CLIENTS), str(EACH_S))
    process = stage.host("client").spawn(words, log=subprocess.PIPE)
    answered: list[float] = []
    try:
        yield lambda: answered[0]
    finally:
        for one in running(stage.host("client"), "tests.bench.ha.echoes"):
            one.send_signal(signal.SIGINT)
        output, _ = process.communicate()
        answered.append(float(output))


@contextmanager
def _without_pulse(stage: Stage) -> Iterator[None]:
    """The one that the stage feels is held for so long."""
    pulses = running(stage.host("client"), "deploy.lab.ha.sender")
    for one in pulses:
        one.suspend()
    try:
        yield
    finally:
        for one in pulses:
            one.resume()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _machine_s() -> float:
    """What all cores worked so far, in seconds."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


COSTS: dict[str, Callable[[Stage], list[Figure]]] = {"idle-client": idle_client, "many-clients": many_clients}
