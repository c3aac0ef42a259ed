"""Fixtures of management on a real bus."""

import pytest

from tests import builders
from tests.bus.management.replica import append
from tests.support.bus import Bus


@pytest.fixture
async def account(bus: Bus) -> Bus:
    """A bus whose log holds one account with the group All."""
    await append(bus, builders.commit(builders.account(), builders.group_all()))
    return bus
