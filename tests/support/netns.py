"""Hosts for tests: made when asked for, always removed, never in the way of another test run."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.lab.netns import Namespace

MakeHost = Callable[[], Namespace]

_numbers = itertools.count(1)


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """Each call gives a new host; all of them are removed after the test, with everything that runs there."""
    made: list[Namespace] = []

    def make() -> Namespace:
        name = f"wbt-{os.getpid()}-{next(_numbers)}"
        host = Namespace(name, tmp_path / name / "wireguard")
        made.append(host)
        host.create()
        return host

    yield make
    for host in made:
        end_processes(host)
        host.remove()


@pytest.fixture
def host(make_host: MakeHost) -> Namespace:
    return make_host()


def end_processes(host: Namespace) -> None:
    """Kill what runs on the host, and come back when it is gone."""
    if not host.exists:
        return
    processes = [psutil.Process(pid) for pid in host.processes() if psutil.pid_exists(pid)]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=15.0)
