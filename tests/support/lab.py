"""A lab whose client reaches the LAN, and what tests do to its processes."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from deploy.lab import probes
from deploy.lab.lab import Lab
from deploy.lab.scenario import Scenario
from deploy.lab.topology import LAN_GATEWAY_V4, LAN_HOST_V4, WEB_PORT

LIMIT_S = 30.0


@contextmanager
def routed_lab(name: str) -> Iterator[Scenario]:
    """Two hosts are enrolled, and the client reaches the LAN behind the gateway's address. It is removed after that."""
    lab = Lab(name)
    try:
        lab.build()
        running = Scenario(lab)
        for _, step in running.steps()[:2]:
            step()
        yield running
    finally:
        lab.stop()
        lab.remove()


def eventually(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    return probes.until(condition, limit_s) is not None


def reaches_the_lan(scenario: Scenario) -> bool:
    return scenario.lab.topology.client.call(probes.fetch, LAN_HOST_V4, WEB_PORT, 1.0) == LAN_GATEWAY_V4


def kill(process: psutil.Process) -> None:
    """kill -9, and wait until it is dead; that somebody has noticed is not waited for."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
    assert eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
