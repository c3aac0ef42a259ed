"""`whimbrel lab`: hosts out of network namespaces on this machine, with real agents in them."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from deploy.lab.api import ApiRefused
from deploy.lab.checks import Check
from deploy.lab.ha.scenes import Scene, scenes
from deploy.lab.ha.stage import Stage
from deploy.lab.lab import Lab, LabFailed, NotStarted, lock, unlock
from deploy.lab.netns import CommandFailed
from deploy.lab.scenario import Scenario
from deploy.lab.topology import API_PORT, GATEWAYS, LAN_HOST_V4, UNDERLAY_V4, WEB_PORT
from services.cli.errors import Failed

app = App(name="lab", help="Build hosts out of network namespaces on this machine and run real agents in them.")
console = Console(highlight=False)

Name = Annotated[str, Parameter(help="Name of the lab; several may stand side by side.")]


@app.command
def run(
    what: Annotated[
        Literal["path", "ha", "all"], Parameter(help="The path into the LAN, gateways that die, or both.")
    ] = "path",
    *,
    scene: Annotated[list[str] | None, Parameter(negative="", help="Of `ha`, these scenes alone.")] = None,
    name: Name = "run",
) -> None:
    """Build a lab, check that traffic flows the way it should, and remove everything.

    Prints what each step checked, with the time from the API's answer to the kernel state. Ends with 1 when a step
    fails; its logs then stay and are named. `ha` takes some minutes.

    ```
    whimbrel lab run
    whimbrel lab run ha
    whimbrel lab run ha --scene machine-off --scene drain
    ```
    """
    if scene and what == "path":
        raise Failed("--scene names a scene of `ha`: `whimbrel lab run ha --scene NAME`", 2)
    wanted = _scenes(scene or [])
    with _locked(name):
        begin = time.monotonic()
        if what in ("path", "all"):
            _path(Lab(name))
        if what in ("ha", "all"):
            _ha(Lab(name, len(GATEWAYS)), wanted)
        works = {"path": "the whole path works", "ha": "gateways may die", "all": "everything works"}
        console.print(f"[green]{works[what]}[/green], {time.monotonic() - begin:.1f} s")


def _scenes(names: list[str]) -> list[Scene]:
    known = {scene.name: scene for scene in scenes()}
    unknown = sorted(set(names) - known.keys())
    if unknown:
        raise Failed(f"no such scene: {', '.join(unknown)}; there are {', '.join(known)}", 2)
    return [scene for scene in known.values() if not names or scene.name in names]


def _path(lab: Lab) -> None:
    with _failing(lab):
        _play(lab, _started(lab).steps())


def _ha(lab: Lab, wanted: list[Scene]) -> None:
    stage = Stage(lab)
    with _failing(lab), contextlib.closing(stage):
        with console.status("building hosts, starting the control plane and two gateways"):
            begin = time.monotonic()
            stage.build()
        console.print(f"a client reaches the LAN, two gateways lead there, after {time.monotonic() - begin:.1f} s")
        _play(lab, [(f"{scene.title} [dim]({scene.name})[/dim]", partial(scene.play, stage)) for scene in wanted])


def _play(lab: Lab, steps: list[tuple[str, Callable[[], list[Check]]]]) -> None:
    """Every step, and then the end of the lab."""
    end: list[tuple[str, Callable[[], list[Check]]]] = [
        ("everything stops, and nothing is left behind", partial(_stopped, lab))
    ]
    for number, (title, step) in enumerate([*steps, *end], 1):
        console.print(f"[bold]{number}. {title}[/bold]", soft_wrap=True)
        with console.status("working"):
            checks = step()
        _show(checks)


@app.command
def up(*, name: Name = "lab") -> None:
    """Build a lab with enrolled agents and a route to the LAN, leave it running, and say how to enter each host.

    ```
    whimbrel lab up
    ```
    """
    with _locked(name):
        lab = Lab(name)
        with _failing(lab):
            scenario = _started(lab)
            for title, step in scenario.steps()[:2]:
                with console.status(title):
                    checks = step()
                _show(checks)
    _explain(lab)


@app.command
def down(*, name: Name = "lab") -> None:
    """Stop a lab's processes by signal and remove its hosts and files.

    ```
    whimbrel lab down
    ```
    """
    with _locked(name):
        lab = Lab(name, len(GATEWAYS))
        if not lab.exists:
            console.print(f"there is no lab {name}")
            return
        with console.status("stopping"):
            lab.stop()
            lab.remove()
        console.print(f"lab {name} is gone")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    try:
        descriptor = lock(name)
    except LabFailed as problem:
        raise Failed(str(problem)) from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who is ended by SIGTERM cleans up as after Ctrl-C
    try:
        yield
    finally:
        unlock(name, descriptor)


def _started(lab: Lab) -> Scenario:
    with console.status("building hosts and starting the control plane"):
        begin = time.monotonic()
        lab.build()
    console.print(f"4 hosts and the control plane are up after {time.monotonic() - begin:.1f} s")
    return Scenario(lab)


def _stopped(lab: Lab) -> list[Check]:
    with console.status("stopping"):
        took = lab.stop()
        left = lab.leftovers()
        if left:
            raise LabFailed("left behind: " + "; ".join(left))
        lab.remove()
    checks = [Check(f"{process} ended {seconds * 1000:.0f} ms after SIGTERM") for process, seconds in took.items()]
    return [*checks, Check("no process, interface, nft table, rule, route, namespace or file is left")]


def _show(checks: list[Check]) -> None:
    for check in checks:
        timed = "" if check.after_ms is None else f"  [cyan]{check.after_ms:+.1f} ms after the API's answer[/cyan]"
        console.print(f"   [green]ok[/green] {check.text}{timed}", soft_wrap=True)


@contextmanager
def _failing(lab: Lab) -> Iterator[None]:
    """Whoever fails says what, keeps the logs, removes the rest, and ends with 1."""
    try:
        yield
    except (LabFailed, CommandFailed, ApiRefused, KeyboardInterrupt) as problem:
        print(f"error: {'interrupted' if isinstance(problem, KeyboardInterrupt) else problem}", file=sys.stderr)
        if not isinstance(problem, NotStarted):
            lab.stop()
            lab.remove(keep_logs=True)
            print(f"logs are in {lab.directory}; `whimbrel lab down --name {lab.name}` removes them", file=sys.stderr)
        sys.exit(1)


def _explain(lab: Lab) -> None:
    console.print("\nEnter a host:")
    for host, namespace in lab.topology.hosts.items():
        console.print(f"  {host:9} ip netns exec {namespace.name} bash")
    client = lab.topology.client.name
    token = lab.directory / "server/admin.token"
    api = f"--api http://{UNDERLAY_V4}:{API_PORT} --token-file {token}"
    underlay = lab.topology.underlay.name
    console.print("Try:")
    for line in (
        f"ip netns exec {client} curl http://{LAN_HOST_V4}:{WEB_PORT}/",
        f"whimbrel status -d --socket {lab.socket('client')}",
        f"whimbrel networks ls --socket {lab.socket('client')}",
        f"ip netns exec {underlay} whimbrel admin routes list {api}",
        f"whimbrel lab down --name {lab.name}",
    ):
        console.print(f"  {line}", soft_wrap=True)
