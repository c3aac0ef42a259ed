"""What can happen to a gateway, and how it is mended: pairs of functions of the stage and the gateway's name."""

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import msgspec
import psutil

from deploy.lab.agentsocket import ask
from deploy.lab.filters import load, unload
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import LabFailed
from deploy.lab.netns import address, run
from deploy.lab.probes import until
from deploy.lab.processes import running
from deploy.lab.topology import LAN_HOST_V4, lan_addresses

Act: TypeAlias = Callable[[Stage, str], None]

END_LIMIT_S = 20.0
DRAIN_S = 10.0
"""What `whimbrel down` gives clients by default."""
REPLACED = ("name", "ssh_enabled", "login_expiration_enabled", "inactivity_expiration_enabled")
"""Fields of a peer that a request without them resets."""
HOLE = "whimbrel-lab-hole"
PROBE = {"icmp": LAN_HOST_V4}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """words: what happens, after the gateway's name. moves: whether its clients have to leave it.

    planned: no packet may be lost. probed: the routes have a probe target meanwhile.
    """

    name: str
    words: str
    happen: Act
    mend: Act
    moves: bool = True
    planned: bool = False
    probed: bool = False


def _machine_off(stage: Stage, name: str) -> None:
    pids = stage.host(name).processes()
    _cables(stage, name, "down")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _machine_on(stage: Stage, name: str) -> None:
    """A machine that starts anew has no ruleset."""
    _ended(stage, name)
    run(*stage.host(name).command(["nft", "flush", "ruleset"]))
    _cables(stage, name, "up")
    stage.lab.start_agent(name)


def _cables(stage: Stage, name: str, state: str) -> None:
    """The far ends: the gateway sees its carriers go and can tell nobody."""
    for far in (stage.lab.topology.underlay, stage.lab.topology.lan):
        far.ip("link", "set", name, state)


def _link_down(stage: Stage, name: str) -> None:
    stage.lab.topology.underlay.ip("link", "set", name, "down")


def _link_up(stage: Stage, name: str) -> None:
    stage.lab.topology.underlay.ip("link", "set", name, "up")


def _leg_down(stage: Stage, name: str) -> None:
    stage.host(name).ip("link", "set", "lan0", "down")


def _leg_up(stage: Stage, name: str) -> None:
    """Of an interface that goes down the kernel forgets the IPv6 addresses."""
    stage.host(name).ip("link", "set", "lan0", "up")
    address(stage.host(name), "lan0", f"{lan_addresses(name)[1]}/64")


def _hole(stage: Stage, name: str) -> None:
    """The gateway's cable is in, and whatever it sends into the LAN is lost at the next hop."""
    load(stage.lab.topology.lan, "netdev", HOLE, f'type filter hook ingress device "{name}" priority 0', "drop")


def _no_hole(stage: Stage, name: str) -> None:
    unload(stage.lab.topology.lan, "netdev", HOLE)


def _wireguard_killed(stage: Stage, name: str) -> None:
    _signal(stage, name, "wireguard-go", signal.SIGKILL)


def _stop(stage: Stage, name: str) -> None:
    if ask(stage.lab.socket(name), "down", drain_s=DRAIN_S) is None:
        raise LabFailed(f"the agent of {name} did not stop: see {stage.lab.processes.log(name)}")


def _start(stage: Stage, name: str) -> None:
    _ended(stage, name)
    stage.lab.start_agent(name)


def _drain(stage: Stage, name: str, *, draining: bool) -> None:
    path = f"/peers/{stage.peer(name)}"
    peer = stage.lab.api("GET", path)
    stage.lab.api("PUT", path, {field: peer[field] for field in REPLACED} | {"draining": draining})


def _agent_frozen(stage: Stage, name: str) -> None:
    _signal(stage, name, "services.agent", signal.SIGSTOP)


def _agent_thawed(stage: Stage, name: str) -> None:
    _signal(stage, name, "services.agent", signal.SIGCONT)


def _agent_killed(stage: Stage, name: str) -> None:
    _signal(stage, name, "services.agent", signal.SIGKILL)


def _agent_started(stage: Stage, name: str) -> None:
    stage.lab.start_agent(name)


def _by_itself(stage: Stage, name: str) -> None:
    """The agent mends it."""


def _signal(stage: Stage, name: str, word: str, number: signal.Signals) -> None:
    for process in running(stage.host(name), word):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _ended(stage: Stage, name: str) -> None:
    if until(lambda: not stage.host(name).processes(), END_LIMIT_S) is None:
        raise LabFailed(f"processes of {name} do not end: {stage.host(name).processes()}")


MACHINE_OFF = Fault(
    name="machine-off", words="is switched off: processes and links at once", happen=_machine_off, mend=_machine_on
)
LINK_DOWN = Fault(name="link-down", words="loses its link without a word", happen=_link_down, mend=_link_up)
LEG_DOWN = Fault(name="leg-down", words="loses its LAN interface", happen=_leg_down, mend=_leg_up)
LEG_HOLE = Fault(
    name="leg-hole", words="sends into a LAN that loses it at the next hop", happen=_hole, mend=_no_hole, probed=True
)
WIREGUARD_KILLED = Fault(
    name="wireguard-killed",
    words="has its wireguard-go killed",
    happen=_wireguard_killed,
    mend=_by_itself,
    moves=False,
)
DEATHS = (MACHINE_OFF, LINK_DOWN, LEG_DOWN, LEG_HOLE, WIREGUARD_KILLED)
"""What nobody announces."""

STOP = Fault(name="stop", words="is stopped with `whimbrel down`", happen=_stop, mend=_start, planned=True)
DRAIN = Fault(
    name="drain",
    words="is drained",
    happen=partial(_drain, draining=True),
    mend=partial(_drain, draining=False),
    planned=True,
)
PLANNED = (STOP, DRAIN)

AGENT_FROZEN = Fault(
    name="agent-frozen",
    words="has its agent frozen",
    happen=_agent_frozen,
    mend=_agent_thawed,
    moves=False,
    planned=True,
)
AGENT_KILLED = Fault(
    name="agent-killed",
    words="has its agent killed",
    happen=_agent_killed,
    mend=_agent_started,
    moves=False,
    planned=True,
)
HARMLESS = (AGENT_FROZEN, AGENT_KILLED)
"""The kernel carries on: nobody moves."""
