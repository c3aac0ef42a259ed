"""Agents against a control plane whose documents are written by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus.agent.plane import Plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path)
    await plane.start()
    yield plane
    await plane.stop()
