"""The lab's processes: started with their own logs, remembered on disk, ended by signal and by pid."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from deploy.lab.netns import Namespace

STOP_TIMEOUT_S = 20.0


class Started(msgspec.Struct, frozen=True):
    """A process of the lab. started: its start time, so that a reused pid is never mistaken for it."""

    name: str
    pid: int
    started: float


class Processes:
    """The processes of one lab, in the order they were started, kept in `directory`/processes.json."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "processes.json"
        self.started: list[Started] = []
        if self._file.exists():
            self.started = msgspec.json.decode(self._file.read_bytes(), type=list[Started])

    def log(self, name: str) -> Path:
        """Where a process's output is."""
        return self._directory / f"{name}.log"

    def start(
        self, name: str, host: Namespace, words: Iterable[str], environment: Mapping[str, str] | None = None
    ) -> Started:
        """Start a process on a host; what it prints goes to `log(name)`."""
        with self.log(name).open("ab") as log:
            child = host.spawn(words, log=log.fileno(), environment=environment)
        entry = Started(name, child.pid, psutil.Process(child.pid).create_time())
        self.started.append(entry)
        self._file.write_bytes(msgspec.json.encode(self.started))
        return entry

    def alive(self, name: str) -> bool:
        return any(entry.name == name and _process(entry) for entry in self.started)

    def stop(self, names: Iterable[str]) -> dict[str, float]:
        """End processes by SIGTERM, in the order given; gives name → seconds it took.

        One that does not end within STOP_TIMEOUT_S is killed and counted as that long.
        """
        took = {}
        for name in names:
            for entry in [e for e in self.started if e.name == name]:
                begin = time.monotonic()
                _end(entry)
                took[name] = time.monotonic() - begin
        return took


def running(host: Namespace, word: str) -> list[psutil.Process]:
    """The processes of a host that have the word in their command line."""
    found = []
    for pid in host.processes():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            process = psutil.Process(pid)
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


def _process(entry: Started) -> psutil.Process | None:
    try:
        process = psutil.Process(entry.pid)
        same = process.create_time() == entry.started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None


def _end(entry: Started) -> None:
    process = _process(entry)
    if process is None:
        return
    process.send_signal(signal.SIGTERM)
    if not _ended(entry.pid):
        process.kill()
        _ended(entry.pid)


def end_all(pids: Iterable[int]) -> None:
    """Kill processes that a failed lab left in its namespaces."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            _ended(pid)


def _ended(pid: int) -> bool:
    """Whether the process ends within STOP_TIMEOUT_S.

    It may stay as a zombie: the first process of a container, and so the parent of whoever lost its own, may be one
    that takes no notice of ends.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], STOP_TIMEOUT_S)[0])
    finally:
        os.close(handle)
