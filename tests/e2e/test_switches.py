"""Connections of a client with two gateways into one LAN, on real hosts: what a switch may cost them."""

import os
from collections.abc import Iterator

import pytest

from deploy.lab.ha.scenes import scenes
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import Lab
from deploy.lab.topology import GATEWAYS

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Two gateways, of which one carries; each scene leaves it as it was."""
    lab = Lab(f"s{os.getpid()}", len(GATEWAYS))
    made = Stage(lab)
    try:
        made.build()
        yield made
    finally:
        made.close()
        lab.stop()
        lab.remove()


@pytest.mark.parametrize("name", ["stop", "failback", "rolling-restart", "reset"])
def test_a_planned_move_costs_no_packet_and_no_request_and_another_ends_connections_at_once_g4_g5_g6(
    stage: Stage, name: str
) -> None:
    (scene,) = (scene for scene in scenes() if scene.name == name)
    assert scene.play(stage)
