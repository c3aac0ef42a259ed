"""Gateways that die, stop, drain and return, each way once, on one stage. `just bench ha` says how long it takes."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from deploy.lab.ha.scenes import Scene, scenes
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import Lab
from deploy.lab.topology import GATEWAYS


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Each scene leaves it as it was."""
    lab = Lab(f"h{os.getpid()}", len(GATEWAYS))
    made = Stage(lab)
    try:
        with contextlib.closing(made):
            made.build()
            yield made
    finally:
        lab.stop()
        lab.remove()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("scene", [pytest.param(scene, id=scene.name) for scene in scenes()])
def test_the_lan_is_reached_whatever_becomes_of_a_gateway_g2_g4_g5_g6(stage: Stage, scene: Scene) -> None:
    for check in scene.play(stage):
        print(check.text)
