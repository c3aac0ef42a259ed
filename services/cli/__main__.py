"""The command `whimbrel`. Each command's module is imported when it runs, so that an agent never loads a web server."""

import os
import sys
from typing import Literal, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Env

from services.cli.errors import INTERRUPTED, READER_GONE, USAGE, Failed
from shared.version import VERSION

CONTROL_PLANE = Group("Control plane", sort_key=1)
HOST = Group("This host", sort_key=2)
TRY = Group("Try it", sort_key=3)

STAYS = ("server", "management", "signal", "resolver", "up")
"""The commands that become a program and stay: each of their options also reads a variable.

The others end at once, and read only where to find those: nobody shall delete or rename by a variable.
"""

COMMANDS = (
    (CONTROL_PLANE, "server", "services.cli.server:app", "Run the whole control plane on this machine."),
    (CONTROL_PLANE, "management", "services.cli.service:management", "Run one management service on a bus."),
    (CONTROL_PLANE, "signal", "services.cli.service:signal", "Run one signal service on a bus."),
    (CONTROL_PLANE, "resolver", "services.cli.service:resolver", "Run one resolver service on a bus."),
    (CONTROL_PLANE, "admin", "services.cli.admin:app", "Use the REST API: routes, groups, peers, policies, keys."),
    (HOST, "up", "services.cli.agent:up", "Enrol this host if needed and run its agent."),
    (HOST, "down", "services.cli.agent:down", "Stop this host's agent."),
    (HOST, "status", "services.cli.agent:status", "Show what this host is connected to and how far it is."),
    (HOST, "networks", "services.cli.agent:networks", "Show and choose the routes offered to this host."),
    (HOST, "debug", "services.cli.agent:debug", "Ask this host's agent what it does, and why."),
    (TRY, "lab", "services.cli.lab:app", "Build hosts out of network namespaces and run real agents in them."),
)
"""Group in the help page, name, where its code is, and its line in the help page."""


PREFIX = "WHIMBREL_"

PLAIN: Literal["plaintext"] = "plaintext"
"""For pages without an example: what shows markdown takes longer to load than all the rest."""


def application(typed: str) -> App:
    """The command, about to run its command `typed`.

    A line of COMMANDS stands for a module that is not imported. `typed` goes without, so that its own help, with
    examples, shows.
    """
    app = App(
        name="whimbrel",
        help=(
            "A WireGuard overlay with routing peers. Every option of a command that stays (server, management, signal, "
            "resolver, up) also reads WHIMBREL_<OPTION>; the others read the variables that their help names."
        ),
        version=VERSION,
        config=Env(PREFIX, command=False) if typed in STAYS else (),
        default_parameter=Parameter(negative_iterable=()),
        print_error=False,
        exit_on_error=False,
        help_format="markdown" if typed in {name for _, name, _, _ in COMMANDS} else PLAIN,
    )
    for group, name, code, line in COMMANDS:
        app.command(code, name=name, help=None if name == typed else line, group=group)
    return app


def main() -> None:
    """Run the command that the arguments name; every failure is one line."""
    for name in [name for name, value in os.environ.items() if name.startswith(PREFIX) and not value]:
        del os.environ[name]  # an empty variable counts as not set, as in shared/settings.py
    try:
        try:
            application(next(iter(sys.argv[1:]), ""))(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again at the exit
        sys.exit(READER_GONE)
    except Failed as failed:
        _end(failed.message, failed.code)
    except CycloptsError as mistyped:
        _end(str(mistyped), USAGE)
    except KeyboardInterrupt:  # while a command's module is imported: cyclopts catches it once the command runs
        _end("interrupted", INTERRUPTED)


def _end(message: str, code: int) -> NoReturn:
    print("error:", *message.split(), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
