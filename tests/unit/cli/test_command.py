"""The command itself."""

import subprocess
import sys

import pytest

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
        *("networks ls", "networks select", "networks deselect", "lab run", "lab up", "lab down"),
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


def test_a_variable_is_read_unless_it_is_empty(admin: Run) -> None:
    assert admin("routes", "list", WHIMBREL_JSON="1").out.startswith("[")
    for value in ("", "0", "false"):
        assert admin("routes", "list", WHIMBREL_JSON=value).out.startswith("ID ")
    assert admin("events", "list", WHIMBREL_LIMIT="").code == 0
    assert admin("events", "list", WHIMBREL_LIMIT="many").code == 2


def test_what_is_typed_comes_before_the_variable(admin: Run) -> None:
    assert admin("peers", "list", "--name", "laptop", WHIMBREL_NAME="gw").out.count("\n") == 2


def test_every_option_says_which_variable_it_reads(whimbrel: Run) -> None:
    shown = whimbrel("admin", "routes", "create", "--help").out
    for variable in ("WHIMBREL_API", "WHIMBREL_TOKEN_FILE", "WHIMBREL_JSON", "WHIMBREL_NETWORK_ID", "WHIMBREL_METRIC"):
        assert variable in shown
