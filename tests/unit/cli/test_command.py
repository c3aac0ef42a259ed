"""The command itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.api.world import World
from tests.unit.cli.conftest import Run

LOADS = """
import sys
from services.cli.__main__ import main
sys.argv = ["whimbrel", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
heavy = ("litestar", "granian", "faststream", "nats", "httpx", "pyroute2", "nftables", "structlog", "dns", "pydantic")
print("loaded:", *[name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], []),
        (["--version"], []),
        (["up", "--help"], []),
        (["admin", "--help"], []),
        (["admin", "routes", "--help"], ["httpx"]),
        (["admin", "routes", "list"], ["httpx"]),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], needed: list[str]) -> None:
    code = LOADS.format(arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.rpartition("loaded:")[2].split() == needed


INTERRUPTED = """
import sys
from services.cli.__main__ import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "services.cli.lab":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
sys.argv = ["whimbrel", "lab", "run"]
main()
"""


def test_ctrl_c_while_a_command_is_loaded_is_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "error: interrupted\n")


def test_help_shows_every_command(whimbrel: Run) -> None:
    shown = whimbrel("--help").out
    for command in ("server", "management", "signal", "resolver", "admin", "up", "down", "status", "networks", "lab"):
        assert f"│ {command} " in shown


def test_help_names_the_variable_of_an_option(whimbrel: Run) -> None:
    assert "WHIMBREL_<OPTION>" in whimbrel("--help").out


@pytest.mark.parametrize(
    "command",
    [
        *("server", "management", "signal", "resolver", "up", "down", "status"),
        *("server backup", "server restore", "server accept-loss", "server new-token"),
        *("networks ls", "networks history", "networks select", "networks deselect", "debug dns"),
        *("lab run", "lab up", "lab down"),
    ],
)
def test_help_of_every_command_has_an_example(command: str, whimbrel: Run) -> None:
    shown = whimbrel(*command.split(), "--help").out
    assert any(line.removeprefix("Example:").strip().startswith(f"whimbrel {command}") for line in shown.splitlines())


def test_help_of_up_says_its_exit_codes(whimbrel: Run) -> None:
    shown = " ".join(whimbrel("up", "--help").out.split())
    for code in ("2 when", "3 when the key is refused", "4 when", "5 when", "6 when"):
        assert code in shown


@pytest.mark.parametrize("command", ["networks select", "networks deselect", "admin groups update"])
def test_no_list_has_an_option_to_empty_it(command: str, whimbrel: Run) -> None:
    assert "--empty-" not in whimbrel(*command.split(), "--help").out


def test_a_mistyped_command_is_one_line_with_a_suggestion(whimbrel: Run) -> None:
    result = whimbrel("amdin")
    assert result.code != 0
    assert result.err.startswith('error: Unknown command "amdin". Did you mean "admin"?')
    assert result.err.count("\n") == 1


def test_a_variable_is_read_unless_it_is_empty(whimbrel: Run, tmp_path: Path) -> None:
    assert f"no agent runs at {tmp_path}/a.sock" in whimbrel("status", WHIMBREL_SOCKET=str(tmp_path / "a.sock")).err
    assert (
        "no agent runs at /run/whimbrel/none.sock"
        in whimbrel("status", WHIMBREL_SOCKET="", WHIMBREL_INTERFACE="none").err
    )


def test_what_is_typed_comes_before_the_variable(whimbrel: Run, tmp_path: Path) -> None:
    typed = ("status", "--socket", str(tmp_path / "typed.sock"))
    assert "typed.sock" in whimbrel(*typed, WHIMBREL_SOCKET=str(tmp_path / "variable.sock")).err


def test_the_address_that_the_server_listens_on_is_not_where_admin_asks(admin: Run) -> None:
    for listens in ("0.0.0.0:1", "http://127.0.0.1:1"):
        assert admin("routes", "list", WHIMBREL_API=listens).code == 0


def test_no_variable_changes_what_a_command_of_admin_does(admin: Run, world: World) -> None:
    before = world.state.routes["lan"]
    general = {"WHIMBREL_NAME": "gw", "WHIMBREL_ENABLED": "false", "WHIMBREL_JSON": "1", "WHIMBREL_METRIC": "7"}
    assert admin("peers", "list", **general).out == admin("peers", "list").out
    assert admin("routes", "update", "lan", "--description", "new", **general).code == 0
    assert world.state.routes["lan"] == replace(before, description="new")


def test_every_option_of_a_program_that_stays_says_which_variable_it_reads(whimbrel: Run) -> None:
    for command, variables in (("server", ("API", "DATA_DIR", "BUS_CERT")), ("up", ("BUS", "INTERFACE", "SOCKET"))):
        shown = whimbrel(command, "--help").out
        for variable in variables:
            assert f"[env var: WHIMBREL_{variable}]" in " ".join(shown.replace("│", "").split())


def test_the_others_say_which_they_read(whimbrel: Run) -> None:
    for command, variables in (
        ("admin routes create", ["WHIMBREL_ADMIN_API", "WHIMBREL_TOKEN_FILE"]),
        ("networks select", ["WHIMBREL_INTERFACE", "WHIMBREL_SOCKET"]),
        ("lab run", []),
    ):
        shown = whimbrel(*command.split(), "--help").out
        assert sorted(set(re.findall(r"WHIMBREL_\w+", shown.partition("Wherever")[0]))) == variables


@pytest.mark.parametrize("arguments", [("--version",), ("down", "--socket", "none.sock")])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60
        )
    finally:
        os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode != 0
