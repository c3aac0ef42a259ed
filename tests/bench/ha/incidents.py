"""Each scene of a gateway that goes or comes back, many times on one standing lab."""

import time
from collections.abc import Callable
from functools import partial

from deploy.lab.ha import incident
from deploy.lab.ha.faults import DEATHS, DRAIN, HARMLESS, LINK_DOWN, MACHINE_OFF, STOP, Fault
from deploy.lab.ha.incident import Incident
from deploy.lab.ha.pulse import Window
from deploy.lab.ha.scenes import play_fault
from deploy.lab.ha.stage import STEADY, Stage
from tests.bench.figures import Figure, figure
from tests.bench.ha.record import Run

REST = STEADY
"""Requests before a scene, which say what the pulse shows when nothing happens; on a settled stage all are answered."""
AIM_MS = "< 1000"

APART_S = 32.0
"""Between two falls of a gateway that is to fail back: one that falls three times a minute waits longer (G4)."""


class FailBack:
    """The gateway that carries, each time; it must not count as flapping."""

    def __init__(self) -> None:
        self._fell = float("-inf")

    def __call__(self, stage: Stage) -> Incident:
        time.sleep(max(0.0, self._fell + APART_S - time.monotonic()))
        self._fell = time.monotonic()
        return incident.fail_back(stage)


def returned(stage: Stage, fault: Fault) -> Incident:
    """Without masquerading, and with a return address."""
    with incident.return_address(stage):
        return incident.suffer(stage, fault)


PLAYS: dict[str, Callable[[Stage], Incident]] = {
    **{fault.name: partial(play_fault, fault=fault) for fault in (*DEATHS, STOP, DRAIN, *HARMLESS)},
    **{f"{fault.name}-without-bus": partial(play_fault, fault=fault, without_bus=True) for fault in (*DEATHS, STOP)},
    **{f"{fault.name}-returned": partial(returned, fault=fault) for fault in (MACHINE_OFF, LINK_DOWN, STOP, DRAIN)},
    "failback": FailBack(),
}
LOSSLESS = frozenset({"failback", *(fault.name for fault in (STOP, DRAIN, *HARMLESS))})


def run(stage: Stage, scene: str) -> Run:
    """One run of the scene, from a settled stage to a settled stage."""
    rest = stage.pulse.window(max(0, stage.pulse.count - REST - incident.WAITING), stage.pulse.count - incident.WAITING)
    found = PLAYS[scene](stage)
    return Run(seen=found.seen, rest=rest, problem="" if found.after else "traffic did not flow again")


def figures(scene: str, runs: list[Run]) -> list[Figure]:
    """The outage beside what the pulse shows when nothing happens."""
    good = [one for one in runs if not one.problem]
    problems = len(runs) - len(good)
    rows = [figure(f"{scene}: problems", f"of {len(runs)}", [problems], "0")] if problems else []
    if good:
        rows.append(figure(f"{scene}: without an answer", "ms", [_ms(one.seen) for one in good], AIM_MS))
        lost = [float(one.seen.lost) for one in good]
        rows.append(figure("packets lost", "of one each 20 ms", lost, "0" if scene in LOSSLESS else ""))
        rows.append(figure("reference: when nothing happens", "ms", [_ms(one.rest) for one in good]))
        rows.append(figure("reference: the pulse's own lateness", "ms", [one.seen.late_s * 1000 for one in good]))
    return rows


def _ms(window: Window) -> float:
    return window.outage_s * 1000
