"""`just bench ha`: gateways die often, and nothing dies for minutes; every figure beside one of the same run.

What was measured is kept in a file, so that an interrupted bench goes on, and a long one is done scene by scene:

    just bench ha --runs 100 --scene drain --scene failback
"""

import argparse
import os
from pathlib import Path

import msgspec
from rich.console import Console

from deploy.lab.api import ApiRefused
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import Lab, LabFailed
from deploy.lab.netns import CommandFailed
from deploy.lab.topology import GATEWAYS
from tests.bench.figures import Figure
from tests.bench.ha import costs, incidents, steadiness
from tests.bench.ha.noise import NOISES
from tests.bench.ha.record import FILE, Record, Run, nothing
from tests.bench.ha.sets import many_sets

MANY_SETS = "many-sets"
AT_ONCE = (*costs.COSTS, MANY_SETS)
"""Measured in one go."""
SCENES = (*incidents.PLAYS, *NOISES, *AT_ONCE)
PROBLEMS = 5
"""Of a scene: after these the bench goes on to the next one."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """runs: of each incident. minutes: of each noise. scenes: () for all of them. anew: forget what the file holds."""

    runs: int = 50
    minutes: float = 10.0
    scenes: tuple[str, ...] = ()
    file: Path = FILE
    anew: bool = False


def options(parser: argparse.ArgumentParser) -> None:
    """What the command line may say of it."""
    mine = parser.add_argument_group("ha")
    mine.add_argument("--runs", type=int, default=50, help="of each scene in which something happens")
    mine.add_argument("--minutes", type=float, default=10.0, help="of each scene in which nothing should happen")
    mine.add_argument("--scene", action="append", choices=SCENES, metavar="NAME", help=f"one of {', '.join(SCENES)}")
    mine.add_argument("--file", type=Path, default=FILE, help=f"what was measured so far, {FILE}")
    mine.add_argument("--anew", action="store_true", help="forget what was measured so far")


def wanted(found: argparse.Namespace) -> Wanted:
    scenes = tuple(found.scene or ())
    return Wanted(runs=found.runs, minutes=found.minutes, scenes=scenes, file=found.file, anew=found.anew)


class Standing:
    """One lab for all scenes, built when it is wanted, and again after one that broke it."""

    def __init__(self) -> None:
        self._lab: Lab | None = None
        self._stage: Stage | None = None

    def stage(self) -> Stage:
        if self._stage is None:
            self._lab = Lab(f"ha{os.getpid()}", len(GATEWAYS))
            self._stage = Stage(self._lab)
            self._stage.build()
        return self._stage

    def remove(self) -> None:
        if self._stage is not None:
            self._stage.close()
        if self._lab is not None:
            self._lab.stop()
            self._lab.remove()
        self._lab = self._stage = None


def measure(wanted: Wanted) -> list[Figure]:
    """Go on with what the file holds, until every scene has its runs."""
    if wanted.anew:
        wanted.file.unlink(missing_ok=True)
    record, standing = Record(wanted.file), Standing()
    scenes = [scene for scene in SCENES if not wanted.scenes or scene in wanted.scenes]
    try:
        for scene in scenes:
            _measure(scene, wanted, record, standing)
    finally:
        standing.remove()
    return [row for scene in scenes for row in _figures(scene, record)]


def _measure(scene: str, wanted: Wanted, record: Record, standing: Standing) -> None:
    console = Console(stderr=True, highlight=False)
    if scene in AT_ONCE:
        if scene not in record.kept.figures:
            console.print(scene)
            record.keep(scene, many_sets() if scene == MANY_SETS else costs.COSTS[scene](standing.stage()))
        return
    runs = wanted.runs if scene in incidents.PLAYS else 1
    while len(record.runs(scene)) < runs and sum(one.problem != "" for one in record.runs(scene)) < PROBLEMS:
        try:
            stage = standing.stage()
            run = (
                incidents.run(stage, scene)
                if scene in incidents.PLAYS
                else steadiness.run(stage, scene, wanted.minutes)
            )
        except (LabFailed, CommandFailed, ApiRefused) as problem:
            run = Run(seen=nothing(), rest=nothing(), problem=str(problem))
            standing.remove()
        record.add(scene, run)
        console.print(f"{scene} {len(record.runs(scene))}/{runs}: {_told(run)}")


def _told(run: Run) -> str:
    outage = f"{run.seen.outage_s * 1000:.0f} ms without an answer, {run.seen.lost} of {run.seen.sent} lost"
    return run.problem or "; ".join([*run.switches, outage])


def _figures(scene: str, record: Record) -> list[Figure]:
    runs = record.runs(scene)
    if scene in AT_ONCE:
        return record.kept.figures.get(scene, [])
    return incidents.figures(scene, runs) if scene in incidents.PLAYS else steadiness.figures(scene, runs)
