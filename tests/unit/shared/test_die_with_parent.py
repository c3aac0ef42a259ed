"""Children that end with who started them, and directories that belong to one process."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.bus.embedded.die_with_parent import die_with_parent
from shared.directory import held
from shared.errors import Taken

PARENT = """
import subprocess, sys
from shared.bus.embedded.die_with_parent import die_with_parent
child = subprocess.Popen(die_with_parent("/bin/sleep", "60"), stdout=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_is_killed_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watched = os.pidfd_open(child)
    try:
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        assert select.select([watched], [], [], 10)[0] == [watched]
    finally:
        os.close(watched)


def test_a_child_that_dies_with_its_parent_is_else_as_any() -> None:
    done = subprocess.run(
        die_with_parent("/bin/sh", "-c", 'echo "$0 $1"; exit 3', "a b", "c"), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (3, "a b c\n")


def test_a_directory_is_held_by_one_and_free_again_after_it(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with held(directory):
        assert directory.stat().st_mode & 0o777 == 0o700
        with pytest.raises(Taken) as refusal, held(directory):
            pass
        assert str(directory) in str(refusal.value)
    with held(directory):
        pass
