"""One lab: its hosts, its processes and its files, from nothing to running and back to nothing."""

import os
import re
import shutil
import sys
from pathlib import Path

from deploy.lab.api import Api, answers
from deploy.lab.probes import leftovers, until
from deploy.lab.processes import Processes, end_all
from deploy.lab.topology import API_PORT, BUS_PORT, HOSTS, UNDERLAY_V4, WEB_PORT, Topology
from shared.directory import locked

START_LIMIT_S = 30.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,19}")
HOME = Path("/run/whimbrel-lab")
PYTHON = sys.executable
COMMAND = str(Path(sys.executable).with_name("whimbrel"))


class LabFailed(Exception):
    """Read the reason: the lab could not be built, or a step found something else than it expected."""


class NotStarted(LabFailed):
    """Do what it says first: nothing was made, so nothing is to be removed."""


class Lab:
    """A lab by name. Its folder below HOME holds logs, keys and states, and is removed with it.

    Everything in it can be found again by another process: `whimbrel lab down` needs only the name. gateways: how many
    it has, for who removes one at least as many.
    """

    def __init__(self, name: str, gateways: int = 1) -> None:
        self.name = name
        self.directory = HOME / name
        self.topology = Topology(name, self.directory, gateways)
        self.processes = Processes(self.directory)
        self._api: Api | None = None

    @property
    def exists(self) -> bool:
        return self.directory.exists() or any(host.exists for host in self.topology.hosts.values())

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = Api(self.topology.underlay, self.directory / "server/admin.token")
        return self._api

    def build(self) -> None:
        """Make the hosts and start the control plane and the web server; raises LabFailed."""
        if self.exists:
            raise NotStarted(f"lab {self.name} is there already: `whimbrel lab down --name {self.name}` removes it")
        self.directory.mkdir(parents=True, mode=0o700)
        self.topology.build()
        self.processes.start("web", self.topology.lan, [PYTHON, "-m", "deploy.lab.webserver", str(WEB_PORT)])
        self.start_server()
        if self.topology.underlay.call(until, lambda: answers(1.0), START_LIMIT_S) is None:
            raise LabFailed(f"the control plane did not start: see {self.processes.log('server')}")

    def start_server(self) -> None:
        """Start the control plane, which goes on with what is on disk."""
        self.processes.start(
            "server",
            self.topology.underlay,
            (
                *(COMMAND, "server", "--data-dir", str(self.directory / "server")),
                *("--api", f"{UNDERLAY_V4}:{API_PORT}", "--bus", f"{UNDERLAY_V4}:{BUS_PORT}"),
            ),
        )

    def start_agent(self, host: str, setup_key: str = "") -> None:
        """Start the agent of the client or of a gateway. An enrolled one needs no key."""
        self.processes.start(
            host,
            self.topology.hosts[host],
            (
                *(COMMAND, "up", "--bus", f"nats://{UNDERLAY_V4}:{BUS_PORT}", "--hostname", host),
                *("--state-dir", str(self.directory / host / "state"), "--socket", str(self.socket(host))),
            ),
            {"WHIMBREL_SETUP_KEY": setup_key} if setup_key else None,
        )

    def socket(self, host: str) -> Path:
        return self.directory / host / "agent.sock"

    def stop(self) -> dict[str, float]:
        """End all processes by signal, agents first and the control plane last; gives name → seconds."""
        agents = [host for host in HOSTS if host in self.topology.hosts]
        others = {entry.name for entry in self.processes.started} - {*agents, "server", "web"}
        return self.processes.stop([*agents, *sorted(others), "server", "web"])

    def leftovers(self) -> list[str]:
        """What is still there of a stopped lab, a line each: processes and kernel state."""
        found: list[str] = []
        for name, host in self.topology.hosts.items():
            host.leave()
            found.extend(f"{name}: process {pid}" for pid in host.processes())
            found.extend(f"{name}: {line}" for line in leftovers(host))
        return found

    def remove(self, *, keep_logs: bool = False) -> None:
        """Remove hosts and files, whatever state they are in; kills what did not end. Idempotent."""
        if self._api is not None:
            self._api.close()
        for host in self.topology.hosts.values():
            if host.exists:
                end_all(host.processes())
        self.topology.remove()
        if not keep_logs and self.directory.exists():
            shutil.rmtree(self.directory)
        if HOME.exists() and not any(HOME.iterdir()):
            HOME.rmdir()


def lock(name: str) -> int:
    """Hold the name for this process. The descriptor is the lock.

    Raises NotStarted when the name is none, this process is not root's, or another one holds the name.
    """
    if not NAME.fullmatch(name):
        raise NotStarted("--name: a lab is named with at most 20 letters, digits and hyphens, as lab2")
    if os.geteuid() != 0:
        raise NotStarted("the lab makes network namespaces: run it as root")
    try:
        return locked(Path(f"/run/whimbrel-lab.{name}.lock"))
    except BlockingIOError:
        raise NotStarted(f"another `whimbrel lab` works on {name} at this moment: wait for it to end") from None


def unlock(name: str, descriptor: int) -> None:
    Path(f"/run/whimbrel-lab.{name}.lock").unlink(missing_ok=True)
    os.close(descriptor)
