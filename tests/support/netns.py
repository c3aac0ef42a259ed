"""Hosts for tests: made when asked for, always removed, never in the way of another test run."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from deploy.lab.netns import Host

MakeHost = Callable[[], Host]

_numbers = itertools.count(1)


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Each call gives a new host; all of them are removed after the test, with everything that runs there."""
    made: list[Host] = []

    def make() -> Host:
        host = Host(f"wbt-{os.getpid()}-{next(_numbers)}")
        made.append(host)
        host.create()
        return host

    yield make
    for host in made:
        host.remove()


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    return make_host()
