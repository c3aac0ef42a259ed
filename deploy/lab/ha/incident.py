"""One fault of the gateway that carries the LAN, from a settled stage until traffic flows again."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from deploy.lab.filters import load, unload
from deploy.lab.ha.faults import LINK_DOWN, PROBE, Fault
from deploy.lab.ha.pulse import BEAT_S, SPACING_S, Window
from deploy.lab.ha.stage import METRIC, Stage
from deploy.lab.lab import LabFailed
from deploy.lab.netns import CommandFailed, run
from deploy.lab.probes import until
from deploy.lab.topology import BUS_PORT, UNDERLAY_V4

FLOWING = 25
"""Answered requests in a row, after which traffic flows again."""
WATCHED = 150
"""Requests for which a fault that moves nobody is watched: five times what a dead gateway takes to be noticed."""
WAITING = round(BEAT_S / SPACING_S)
"""Of the newest requests, those that may still be answered."""
WORSE = 2 * METRIC
RETURN_ADDRESS = "192.168.77.254"
OVERLAY_V4 = "100.64.0.0/10"
LIMIT_S = 30.0
FAILBACK_LIMIT_S = 90.0
"""A gateway that fell often waits for a minute."""
LOOK_S = 0.05
BUS_CUT = "whimbrel-lab-bus"


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """before, after: who carried the LAN; after is "" when traffic did not flow again within LIMIT_S."""

    before: str
    after: str
    seen: Window


def suffer(stage: Stage, fault: Fault, *, without_bus: bool = False) -> Incident:
    """Let it happen to the gateway that carries, wait until traffic flows again, mend it and settle.

    Raises LabFailed when the stage does not settle.
    """
    with bus_cut(stage) if without_bus else contextlib.nullcontext():
        incident = begin(stage, fault)
    fault.mend(stage, incident.before)
    stage.settle()
    return incident


def begin(stage: Stage, fault: Fault) -> Incident:
    """Let it happen, and wait until traffic flows again; mending it is left to the caller."""
    before = stage.carrier()
    return _watched(stage, before, partial(fault.happen, stage, before), moves=fault.moves)


def fail_back(stage: Stage) -> Incident:
    """The gateway that carries has the better metric, loses its link and gets it back; the incident is its return.

    Raises LabFailed when nobody carries meanwhile.
    """
    better = stage.carrier()
    stage.put_routes({name: WORSE for name in stage.gateways if name != better})
    try:
        stage.settle()
        LINK_DOWN.happen(stage, better)
        if _moved(stage, better, LIMIT_S) is None:
            raise LabFailed(f"{better} lost its link, and its clients stay")
        incident = _watched(stage, stage.carrier(), partial(LINK_DOWN.mend, stage, better), limit_s=FAILBACK_LIMIT_S)
        stage.settle()
    finally:
        stage.put_routes()
    return incident


def _watched(
    stage: Stage, before: str, happen: Callable[[], None], *, moves: bool = True, limit_s: float = LIMIT_S
) -> Incident:
    """What the pulse sees from the moment something happens until traffic flows, elsewhere if it moves."""
    pulse, first = stage.pulse, stage.pulse.count
    happen()
    if moves:
        over = _moved(stage, before, limit_s)
    else:
        over = until(lambda: pulse.count >= first + WATCHED, limit_s, LOOK_S)
    since = pulse.count
    flows = over is not None and until(
        lambda: pulse.count >= since + FLOWING + WAITING and pulse.steady(FLOWING), limit_s, LOOK_S
    )
    after = stage.carrier() if flows else ""
    return Incident(before=before, after=after, seen=pulse.window(first, pulse.count - WAITING))


def _moved(stage: Stage, before: str, limit_s: float) -> float | None:
    return until(lambda: stage.carrier() not in ("", before), limit_s, LOOK_S)


@contextmanager
def probe_targets(stage: Stage) -> Iterator[None]:
    """Meanwhile each gateway asks a host of the LAN on its own leg."""
    stage.put_routes(probe=PROBE)
    try:
        if not until(stage.probing, LIMIT_S, LOOK_S):
            raise LabFailed("the gateways do not ask their probe target, or get no answer")
        yield
    finally:
        stage.put_routes()


@contextmanager
def return_address(stage: Stage) -> Iterator[None]:
    """Meanwhile nothing is masqueraded, and the LAN answers to an address that the gateway which carries has there."""
    stage.lab.topology.return_route(OVERLAY_V4, via=RETURN_ADDRESS)
    stage.put_routes(masquerade=False, return_address=RETURN_ADDRESS)
    try:
        stage.begin_pulse()
        stage.settle()
        if not until(stage.returning, LIMIT_S, LOOK_S):
            raise LabFailed(f"{stage.carrier() or 'nobody'} carries, and has not got the return address")
        yield
    finally:
        stage.put_routes()
        stage.begin_pulse()
    stage.settle()
    if not until(stage.returns_nothing, LIMIT_S, LOOK_S):
        raise LabFailed("gateways do not hear that their routes have no return address any more")


@contextmanager
def bus_cut(stage: Stage) -> Iterator[None]:
    """Meanwhile no host reaches the bus; what was open is reset."""
    underlay = stage.lab.topology.underlay
    load(
        underlay,
        "inet",
        BUS_CUT,
        "type filter hook input priority 0",
        f'iifname "wan" tcp dport {BUS_PORT} reject with tcp reset',
    )
    with contextlib.suppress(CommandFailed):
        run(*underlay.command(["ss", "-K", "sport", "=", f":{BUS_PORT}", "and", "not", "dst", UNDERLAY_V4]))
    try:
        if not until(lambda: not stage.on_the_bus(), LIMIT_S, LOOK_S):
            raise LabFailed("hosts keep their session with a bus that they do not reach")
        yield
    finally:
        unload(underlay, "inet", BUS_CUT)
