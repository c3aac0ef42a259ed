"""`whimbrel server`: the whole control plane on this machine."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from services.cli.supervisor import STOP_ALL_WITHIN_S, Plan, supervise
from shared import log, process
from shared.log import Format, Level


def server(
    *,
    data_dir: Annotated[Path, Parameter(help="Where everything is kept; made on first use.")],
    api: Annotated[str, Parameter(help="Address and port of the REST API.")] = "127.0.0.1:8080",
    bus: Annotated[str, Parameter(help="Address and port that agents connect to.")] = "127.0.0.1:4222",
    log_level: Level = "info",
    log_format: Format = "auto",
) -> None:
    """Run the whole control plane on this machine until SIGTERM.

    The first start makes an account and writes its owner's token to admin.token in the data directory.

    ```
    whimbrel server --data-dir /var/lib/whimbrel --bus 0.0.0.0:4222
    ```
    """
    log.set_up(log_level, log_format)
    running = supervise(data_dir, api, bus, _announce)
    sys.exit(process.run("server", running, stop_within_s=STOP_ALL_WITHIN_S))


def _announce(plan: Plan) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"API          http://{plan.api}")
    console.print(f"bus          nats://{plan.bus}")
    console.print(f"admin token  {plan.admin_token}")
    console.print(f"logs         {plan.logs}")
