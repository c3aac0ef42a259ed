"""`whimbrel lab`: hosts out of network namespaces on this machine, with real agents in them."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from deploy.lab.api import ApiRefused
from deploy.lab.lab import Lab, LabFailed, NotStarted, lock, unlock
from deploy.lab.netns import CommandFailed
from deploy.lab.scenario import Check, Scenario
from deploy.lab.topology import API_PORT, LAN_HOST_V4, UNDERLAY_V4, WEB_PORT
from services.cli.errors import Failed

app = App(name="lab", help="Build hosts out of network namespaces on this machine and run real agents in them.")
console = Console(highlight=False)

Name = Annotated[str, Parameter(help="Name of the lab; several may stand side by side.")]


@app.command
def run(*, name: Name = "run") -> None:
    """Build a lab, check that traffic flows the way it should, and remove everything.

    Prints what each step checked, with the time from the API's answer to the kernel state. Ends with 1 when a step
    fails; its logs then stay and are named.

    ```
    whimbrel lab run
    ```
    """
    with _locked(name):
        lab = Lab(name)
        begin = time.monotonic()
        try:
            scenario = _started(lab)
            for number, (title, step) in enumerate(scenario.steps(), 1):
                console.print(f"[bold]{number}. {title}[/bold]")
                with console.status("working"):
                    checks = step()
                _show(checks)
            console.print(f"[bold]{len(scenario.steps()) + 1}. everything stops, and nothing is left behind[/bold]")
            _show(_stopped(lab))
        except (LabFailed, CommandFailed, ApiRefused, KeyboardInterrupt) as problem:
            _fail(lab, problem)
        console.print(f"[green]the whole path works[/green], {time.monotonic() - begin:.1f} s")


@app.command
def up(*, name: Name = "lab") -> None:
    """Build a lab with enrolled agents and a route to the LAN, leave it running, and say how to enter each host.

    ```
    whimbrel lab up
    ```
    """
    with _locked(name):
        lab = Lab(name)
        try:
            scenario = _started(lab)
            for title, step in scenario.steps()[:2]:
                with console.status(title):
                    checks = step()
                _show(checks)
        except (LabFailed, CommandFailed, ApiRefused, KeyboardInterrupt) as problem:
            _fail(lab, problem)
    _explain(lab)


@app.command
def down(*, name: Name = "lab") -> None:
    """Stop a lab's processes by signal and remove its hosts and files.

    ```
    whimbrel lab down
    ```
    """
    with _locked(name):
        lab = Lab(name)
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


def _fail(lab: Lab, problem: BaseException) -> None:
    """Say what failed, keep the logs, remove the rest, end with 1."""
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
