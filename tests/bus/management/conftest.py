"""Fixtures of management on a real bus."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import builders
from tests.bus.management.plane import PlainBus
from tests.bus.management.replica import append
from tests.support.bus import Bus


@pytest.fixture
async def account(bus: Bus) -> Bus:
    """A bus whose log holds one account with the group All."""
    await append(bus, builders.commit(builders.account(), builders.group_all()))
    return bus


@pytest.fixture
async def plain_bus(tmp_path: Path) -> AsyncIterator[PlainBus]:
    """A bus with streams and one account in the log; management's admission is the test's to run."""
    bus = PlainBus(tmp_path)
    await bus.start()
    await append(bus, builders.commit(builders.account(), builders.group_all()))
    yield bus
    await bus.stop()
