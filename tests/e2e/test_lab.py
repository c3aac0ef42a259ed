"""The lab as people run it, from the command line, on this machine's kernel."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lab.lab import HOME, Lab

COMMAND = str(Path(sys.executable).with_name("whimbrel"))


def whimbrel(*words: str, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=limit_s, check=False)


@pytest.mark.timeout(180)
def test_the_whole_path_works_and_leaves_nothing_behind() -> None:
    name = f"t{os.getpid()}"
    done = whimbrel("lab", "run", "--name", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the LAN host saw 192.168.77.1" in done.stdout
    assert "nothing is left behind" in done.stdout
    assert not Lab(name).exists
    assert not (HOME / name).exists()


@pytest.mark.timeout(180)
def test_a_lab_that_is_up_can_be_used_and_is_gone_after_down() -> None:
    name = f"u{os.getpid()}"
    lab = Lab(name)
    try:
        up = whimbrel("lab", "up", "--name", name)
        assert up.returncode == 0, up.stdout + up.stderr
        assert f"ip netns exec {lab.topology.client.name} bash" in up.stdout
        again = whimbrel("lab", "up", "--name", name)
        assert again.returncode == 1
        assert f"is there already: `whimbrel lab down --name {name}` removes it" in again.stderr
        status = whimbrel("status", "-d", "--json", "--socket", str(lab.socket("client")))
        assert status.returncode == 0, status.stderr
    finally:
        down = whimbrel("lab", "down", "--name", name)
    assert down.returncode == 0, down.stdout + down.stderr
    assert not lab.exists


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_removes_its_hosts(number: signal.Signals) -> None:
    name = f"i{os.getpid()}"
    lab = Lab(name)
    child = subprocess.Popen(
        [COMMAND, "lab", "run", "--name", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    try:
        assert child.returncode == 1
        assert "interrupted" in errors
        assert not any(host.exists for host in lab.topology.hosts.values())
    finally:
        whimbrel("lab", "down", "--name", name)


def test_a_scene_without_ha_is_refused_and_nothing_is_built() -> None:
    done = whimbrel("lab", "run", "--scene", "drain", "--name", f"s{os.getpid()}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --scene names a scene of `ha`: `whimbrel lab run ha --scene NAME`\n"
