"""The command `whimbrel`. Each command's module is imported when it runs, so that an agent never loads a web server."""

import sys
from importlib.metadata import version
from importlib.util import find_spec

from cyclopts import App, CycloptsError, Group
from cyclopts.config import Env

from services.cli.errors import Failed

CONTROL_PLANE = Group("Control plane", sort_key=1)
HOST = Group("This host", sort_key=2)
TRY = Group("Try it", sort_key=3)

COMMANDS = (
    (CONTROL_PLANE, "server", "services.cli.server:server", "Run the whole control plane on this machine."),
    (CONTROL_PLANE, "management", "services.cli.service:management", "Run one management service on a bus."),
    (CONTROL_PLANE, "signal", "services.cli.service:signal", "Run one signal service on a bus."),
    (CONTROL_PLANE, "resolver", "services.cli.service:resolver", "Run one resolver service on a bus."),
    (CONTROL_PLANE, "admin", "services.cli.admin:app", "Use the REST API: routes, groups, peers, policies, keys."),
    (HOST, "up", "services.cli.agent:up", "Enrol this host if needed and run its agent."),
    (HOST, "down", "services.cli.agent:down", "Stop this host's agent."),
    (HOST, "status", "services.cli.agent:status", "Show what this host is connected to and how far it is."),
    (HOST, "networks", "services.cli.agent:networks", "Show and choose the routes offered to this host."),
    (TRY, "lab", "services.cli.lab:app", "Build hosts out of network namespaces and run real agents in them."),
)
"""Group in the help page, name, where its code is, and its line in the help page."""


def one_line(problem: CycloptsError) -> str:
    """What is wrong with a command line, as every other error of the command is shown."""
    return "error: " + " ".join(str(problem).split())


app = App(
    name="whimbrel",
    help="A WireGuard overlay with routing peers. Every option also reads WHIMBREL_<OPTION>.",
    version=lambda: version("whimbrel"),
    config=Env("WHIMBREL_", command=False),
    error_formatter=one_line,
    help_format="markdown",
)

for _group, _name, _code, _help in COMMANDS:
    if find_spec(_code.partition(":")[0]):
        app.command(_code, name=_name, help=_help, group=_group)


def main() -> None:
    try:
        app()
    except Failed as problem:
        print(f"error: {problem.message}", file=sys.stderr)
        sys.exit(problem.code)


if __name__ == "__main__":
    main()
