"""Minutes of noise that must move nobody: how often the client changed its gateway, and what the pulse saw."""

import time

from deploy.lab.ha.incident import WAITING
from deploy.lab.ha.stage import Stage
from tests.bench.figures import Figure, figure
from tests.bench.ha.noise import NOISES
from tests.bench.ha.record import Run

LOOK_S = 0.5


def run(stage: Stage, noise: str, minutes: float) -> Run:
    """Let it be noisy for so long."""
    before = stage.pulse.window(max(0, stage.pulse.count - 50 - WAITING), stage.pulse.count - WAITING)
    with NOISES[noise](stage):
        first, began = stage.pulse.count, time.time()
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            time.sleep(LOOK_S)
        switches = stage.switches(began)
        seen = stage.pulse.window(first, stage.pulse.count - WAITING)
    stage.settle()
    return Run(seen=seen, rest=before, switches=switches)


def figures(noise: str, runs: list[Run]) -> list[Figure]:
    minutes = sum(one.seen.sent for one in runs) * 0.02 / 60
    return [
        figure(f"{noise}: switches", f"in {minutes:.0f} min", [float(sum(len(one.switches) for one in runs))], "0"),
        figure("packets lost", "%", [100 * one.seen.lost / max(1, one.seen.sent) for one in runs]),
        figure("longest time without an answer", "ms", [one.seen.outage_s * 1000 for one in runs]),
    ]
