"""The lab's processes end, whoever their parent is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.lab import processes
from deploy.lab.processes import Processes, Started, end_all

PARENT = """
import subprocess, sys
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def orphan(monkeypatch: pytest.MonkeyPatch) -> Iterator[psutil.Process]:
    """A process whose parent takes no notice of its end, as the first process of a container may not."""
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 2.0)
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        yield child
        child.kill()
        parent.kill()


def test_a_process_that_nobody_waits_for_counts_as_ended(orphan: psutil.Process, tmp_path: Path) -> None:
    running = Processes(tmp_path)
    running.started.append(Started("orphan", orphan.pid, orphan.create_time()))
    assert running.alive("orphan")
    assert running.stop(["orphan"])["orphan"] < 1.5
    assert not running.alive("orphan")


def test_what_is_left_is_killed_and_not_waited_for_as_a_zombie(orphan: psutil.Process) -> None:
    end_all([orphan.pid])
    assert orphan.status() == psutil.STATUS_ZOMBIE
