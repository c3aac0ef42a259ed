"""Agents against a control plane whose documents are written by hand."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.lab.netns import Namespace
from tests.bus.agent.lab import KEY, AgentProcess, KernelState, Road
from tests.bus.agent.plane import Plane
from tests.support.netns import host, make_host

__all__ = ["host", "make_host"]


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path)
    await plane.start()
    yield plane
    await plane.stop()


@pytest.fixture
async def road(host: Namespace, plane: Plane) -> AsyncIterator[Road]:
    road = Road(host, plane.url)
    await road.open()
    yield road
    await road.close()
    await asyncio.sleep(0)


@pytest.fixture
async def agent(host: Namespace, road: Road, plane: Plane, tmp_path: Path) -> AgentProcess:
    """An agent that is not started yet; its key makes it peer "me", whose documents are there."""
    plane.accept(KEY, "me")
    await plane.settle()
    await plane.place("me", 1)
    return AgentProcess(host, tmp_path)


@pytest.fixture
def kernel(host: Namespace) -> KernelState:
    return KernelState(host)
