"""What may last for minutes and must move nobody: loss, jitter, a busy client, a gateway whose agent is frozen."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from deploy.lab.filters import load, unload
from deploy.lab.ha.faults import AGENT_FROZEN
from deploy.lab.ha.stage import Stage
from deploy.lab.netns import Namespace

LOSS = "whimbrel-lab-loss"
LOSS_PERCENT = 2
JITTER_MS = 100


@contextmanager
def loss(stage: Stage) -> Iterator[None]:
    """Of the datagrams to the client and of those from it, LOSS_PERCENT are lost."""
    underlay = stage.lab.topology.underlay
    lost = f"meta l4proto udp numgen random mod 100 < {LOSS_PERCENT} drop"
    load(
        underlay,
        "bridge",
        LOSS,
        "type filter hook forward priority 0",
        f'iifname "client" {lost}',
        f'oifname "client" {lost}',
    )
    try:
        yield
    finally:
        unload(underlay, "bridge", LOSS)


@contextmanager
def jitter(stage: Stage) -> Iterator[None]:
    """A datagram to the client or from it takes up to JITTER_MS longer, each for itself."""
    underlay = stage.lab.topology.underlay
    underlay.ip("link", "add", "jitter0", "type", "veth", "peer", "name", "jitter1")
    for end in ("jitter0", "jitter1"):
        underlay.ip("link", "set", end, "up")
    words = (sys.executable, "-m", "tests.bench.ha.jitter", "client", "jitter0", str(JITTER_MS))
    try:
        with _running(underlay, words) as (relay,):
            assert relay.stdout is not None
            relay.stdout.readline()
            underlay.ip("link", "set", "client", "nomaster")
            underlay.ip("link", "set", "jitter1", "master", "wan")
            yield
    finally:
        underlay.ip("link", "delete", "jitter0")
        underlay.ip("link", "set", "client", "master", "wan")


@contextmanager
def busy_client(stage: Stage) -> Iterator[None]:
    """Every core has a process of the client that wants all of it."""
    words = (sys.executable, "-c", "while True: pass")
    with _running(stage.lab.topology.client, *[words] * (os.cpu_count() or 1)):
        yield


@contextmanager
def frozen_agent(stage: Stage) -> Iterator[None]:
    """The agent of the gateway that carries is stopped; its kernel goes on."""
    name = stage.carrier()
    AGENT_FROZEN.happen(stage, name)
    try:
        yield
    finally:
        AGENT_FROZEN.mend(stage, name)


@contextmanager
def quiet(stage: Stage) -> Iterator[None]:
    """Nothing at all: the reference."""
    yield


NOISES: dict[str, Callable[[Stage], AbstractContextManager[None]]] = {
    "quiet": quiet,
    "loss": loss,
    "jitter": jitter,
    "busy-client": busy_client,
    "frozen-agent": frozen_agent,
}


@contextmanager
def _running(host: Namespace, *commands: tuple[str, ...]) -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [host.spawn(words, log=subprocess.PIPE) for words in commands]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()
