"""`whimbrel lab run ha`: what happens to gateways, one scene after the other on one stage."""

import contextlib
from collections.abc import Callable
from functools import partial

import msgspec

from deploy.lab.checks import Check
from deploy.lab.ha import incident
from deploy.lab.ha.connections import Held, Requests, requesting
from deploy.lab.ha.faults import DEATHS, DRAIN, HARMLESS, LINK_DOWN, MACHINE_OFF, PLANNED, STOP, Fault
from deploy.lab.ha.incident import Incident
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import LabFailed
from deploy.lab.probes import until

RESET_LIMIT_S = 5.0
APART = 10
"""Packets that are lost at most, one each 20 ms, where nothing is masqueraded: client and LAN do not change over at
once, and what comes back in between comes from a gateway that the client does not use (services/agent/DESIGN.md)."""
LOOK_S = 0.05


class Scene(msgspec.Struct, frozen=True):
    """name: for the command line. play: leaves the stage as it was; raises LabFailed for what should not be."""

    name: str
    title: str
    play: Callable[[Stage], list[Check]]


def scenes() -> tuple[Scene, ...]:
    """All of them, in their order; the last one adds a gateway to the stage."""
    faults = (*DEATHS, *PLANNED, *HARMLESS)
    return (
        *(Scene(fault.name, f"the gateway in use {fault.words}", partial(_fault, fault)) for fault in faults),
        *(
            Scene(f"{fault.name}-without-bus", f"no host reaches the bus, and the gateway {fault.words}", play)
            for fault in DEATHS
            for play in (partial(_fault, fault, without_bus=True),)
        ),
        Scene("failback", "the gateway with the better metric returns", _failback),
        Scene("rolling-restart", "both gateways are restarted under requests", _rolling_restart),
        Scene("reset", "masquerade on: connections over a dead gateway end at once", _reset),
        Scene("survive", "masquerade off and a return address: connections outlive the gateway", _survive),
        Scene("survive-cut", "the same when it is cut off from its clients alone", partial(_survive, fault=LINK_DOWN)),
        Scene("survive-drain", "the same when the gateway is drained", partial(_survive, fault=DRAIN)),
        Scene("three", "a third gateway carries when two are off", _three),
    )


def play_fault(stage: Stage, fault: Fault, *, without_bus: bool = False) -> Incident:
    """What became of it, with a probe target for the faults that want one."""
    with incident.probe_targets(stage) if fault.probed else contextlib.nullcontext():
        return incident.suffer(stage, fault, without_bus=without_bus)


def _fault(fault: Fault, stage: Stage, *, without_bus: bool = False) -> list[Check]:
    found = play_fault(stage, fault, without_bus=without_bus)
    checks = [_moved(found) if fault.moves else _stayed(found, may_move=not fault.planned), _cost(found)]
    _no_loss(found, fault)
    return checks


def _no_loss(found: Incident, fault: Fault, *, most: int = 0) -> None:
    if fault.planned and found.seen.lost > most:
        raise LabFailed(f"{found.before} {fault.words}: {_figures(found)}")


def _failback(stage: Stage) -> list[Check]:
    found = incident.fail_back(stage)
    if found.seen.lost:
        raise LabFailed(f"the client goes back to {found.after}, and {found.seen.lost} packets are lost")
    return [_moved(found), _cost(found)]


def _moved(found: Incident) -> Check:
    if not found.after:
        raise LabFailed(f"{found.before} is gone, and traffic does not flow again: {_figures(found)}")
    return Check(f"{found.after} carries instead of {found.before}")


def _stayed(found: Incident, *, may_move: bool) -> Check:
    if not found.after:
        raise LabFailed(f"traffic over {found.before} does not flow again: {_figures(found)}")
    if found.after != found.before and not may_move:
        raise LabFailed(f"the client moved from {found.before} to {found.after} for nothing: {_figures(found)}")
    return Check(f"{found.after} carries {'on' if found.after == found.before else f'instead of {found.before}'}")


def _cost(found: Incident) -> Check:
    return Check(_figures(found))


def _figures(found: Incident) -> str:
    seen = found.seen
    return f"{seen.lost} of {seen.sent} packets lost, at most {seen.outage_s * 1000:.0f} ms without an answer"


def _rolling_restart(stage: Stage) -> list[Check]:
    with requesting(stage.host("client")) as requests:
        for name in stage.gateways:
            STOP.happen(stage, name)
            STOP.mend(stage, name)
            stage.settle()
    _no_failure(requests)
    return [Check(f"{requests.done} requests, none failed, the slowest took {requests.slowest_s * 1000:.0f} ms")]


def _no_failure(requests: Requests) -> None:
    if requests.failed:
        raise LabFailed(f"{len(requests.failed)} of {requests.done} requests failed: {requests.failed[0]}")


def _connections(stage: Stage) -> tuple[Held, Held]:
    """One that transfers, and one that says nothing."""
    transfer, idle = Held(stage.host("client")), Held(stage.host("client"))
    transfer.transfer()
    return transfer, idle


def _reset(stage: Stage) -> list[Check]:
    transfer, idle = _connections(stage)
    before = stage.carrier()
    with contextlib.closing(transfer), contextlib.closing(idle):
        MACHINE_OFF.happen(stage, before)
        moved = until(lambda: stage.carrier() not in ("", before), incident.LIMIT_S, LOOK_S)
        ends = {"the transfer": transfer.ended(RESET_LIMIT_S * 1000), "the idle connection": idle.ended(RESET_LIMIT_S)}
    MACHINE_OFF.mend(stage, before)
    stage.settle()
    if moved is None:
        raise LabFailed(f"{before} is off, and nobody carries instead")
    late = [name for name, moment in ends.items() if moment is None]
    if late:
        raise LabFailed(f"{' and '.join(late)} did not end within {RESET_LIMIT_S:g} s after the client had moved")
    return [Check(f"{name} was reset as the client moved") for name in ends]


def _survive(stage: Stage, fault: Fault = MACHINE_OFF) -> list[Check]:
    with incident.return_address(stage):
        transfer, idle = _connections(stage)
        with contextlib.closing(transfer), contextlib.closing(idle):
            found = incident.suffer(stage, fault)
            checks = [_moved(found), _cost(found)]
            _no_loss(found, fault, most=APART)
            if not transfer.flows(RESET_LIMIT_S):
                raise LabFailed(f"the transfer does not go on over {found.after}")
            if not idle.answers():
                raise LabFailed(f"nobody answers on the idle connection over {found.after}")
    return [*checks, Check("the transfer goes on, and the idle connection is answered on")]


def _three(stage: Stage) -> list[Check]:
    third = stage.add_gateway()
    stage.settle()
    off = []
    checks = [Check(f"{third} has joined")]
    for _ in range(2):
        before = stage.carrier()
        off.append(before)
        found = incident.begin(stage, MACHINE_OFF)
        checks += [_moved(found), _cost(found)]
    for name in off:
        MACHINE_OFF.mend(stage, name)
    stage.settle()
    return checks
