"""The units, against what the command understands and what systemd does."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.arch.tree import ROOT
from tests.unit.cli.conftest import Run, whimbrel

__all__ = ["whimbrel"]

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def service(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    return parser["Service"]


def test_there_is_one_for_a_host_and_one_for_the_control_plane() -> None:
    assert [unit.name for unit in UNITS] == ["whimbrel-agent.service", "whimbrel-server.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_has_nothing_to_say_against_it(unit: Path, tmp_path: Path) -> None:
    there = tmp_path / unit.name
    there.write_text(unit.read_text().replace("/opt/whimbrel/bin/whimbrel", "/bin/true").replace("User=whimbrel", ""))
    ended = subprocess.run(["systemd-analyze", "verify", there], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_command_that_there_is(unit: Path, whimbrel: Run) -> None:
    program, *words = service(unit)["ExecStart"].split()
    assert program == "/opt/whimbrel/bin/whimbrel"
    shown = whimbrel(*words, "--help").out
    for line in unit.read_text().replace(" and ", "\n").splitlines():
        for word in line.replace("Environment=", "").split():
            if word.startswith("WHIMBREL_"):
                assert word.partition("=")[0] in shown
    assert "HUP" in service(unit).get("ExecReload", "HUP")


def test_an_agent_that_only_a_person_can_help_is_not_started_again() -> None:
    assert service(UNITS[0])["RestartPreventExitStatus"] == "2 3 4 6"


def test_a_crashed_agent_leaves_its_wireguard_alone() -> None:
    assert service(UNITS[0])["KillMode"] == "process"
