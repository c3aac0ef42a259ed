"""`whimbrel server`: the whole control plane on this machine."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from services.cli.errors import Failed
from services.cli.supervisor import STOP_ALL_WITHIN_S, Plan, supervise
from shared import log, process
from shared.bus.embedded.certificate import Certificate
from shared.log import Format, Level

app = App(name="server")


@app.default
def server(
    *,
    data_dir: Annotated[Path, Parameter(help="Where everything is kept; made on first use.")],
    api: Annotated[str, Parameter(help="Address and port of the REST API.")] = "127.0.0.1:8080",
    bus: Annotated[str, Parameter(help="Address and port that agents connect to.")] = "127.0.0.1:4222",
    bus_cert: Annotated[
        Path | None, Parameter(help="Certificate of the bus, a PEM file; agents then connect to tls://.")
    ] = None,
    bus_key: Annotated[Path | None, Parameter(help="Its key, a PEM file without a passphrase.")] = None,
    dns_router_interval: Annotated[
        str, Parameter(help="Time between two look-ups of a route's name, at least 2 s; 60 s by default.")
    ] = "",
    log_level: Level = "info",
    log_format: Format = "auto",
) -> None:
    """Run the whole control plane on this machine until SIGTERM.

    The first start makes an account and writes its owner's token to admin.token in the data directory. SIGHUP has the
    bus read its certificate anew: hosts come back by themselves, and no packet is lost.

    ```
    whimbrel server --data-dir /var/lib/whimbrel-server --bus 0.0.0.0:4222 --bus-cert bus.crt --bus-key bus.key
    whimbrel server --data-dir /var/lib/whimbrel-server --dns-router-interval 30s
    ```
    """
    log.set_up(log_level, log_format)
    if (bus_cert is None) != (bus_key is None):
        raise Failed("give --bus-cert and --bus-key together", 2)
    tls = Certificate(cert=bus_cert.absolute(), key=bus_key.absolute()) if bus_cert and bus_key else None
    running = supervise(data_dir, api, bus, tls, _announce, dns_router_interval=dns_router_interval)
    sys.exit(process.run("server", running, stop_within_s=STOP_ALL_WITHIN_S))


def _announce(plan: Plan) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"API          http://{plan.api}")
    console.print(f"bus          {plan.hosts_url}")
    console.print(f"admin token  {plan.admin_token}")
    console.print(f"logs         {plan.logs}")


UPKEEP = {
    "backup": """Copy everything that people asked for, and what hosts hold of it, into one file.

Nothing has to be stopped. What is changed while it runs may be missing; before a move stop management. The file
holds no key and no token, but names and addresses of the network: it is readable for its owner alone.

```
whimbrel server backup --data-dir /var/lib/whimbrel-server /var/backups/whimbrel
docker compose run --rm management server backup /data/backup
```
""",
    "restore": """Give an empty bus what a backup holds: another machine's, or one of another topology.

Hosts stay enrolled. Changes that are newer than the backup are lost.

```
whimbrel server restore --data-dir /var/lib/whimbrel-server /var/backups/whimbrel
docker compose run --rm management server restore /data/backup
```
""",
    "accept-loss": """Go on without the changes that the log has lost, once management has said that they are missing.

Nothing brings them back afterwards. The former read models stay beside the new ones, as readmodel.db.aside-N.

```
whimbrel server accept-loss --data-dir /var/lib/whimbrel-server
```
""",
    "new-token": """Give the account's owner a new token, and take the old ones away.

```
whimbrel server new-token --data-dir /var/lib/whimbrel-server
docker compose exec management whimbrel server new-token
```
""",
}
"""Name and help of what is done beside the control plane: services.cli.upkeep is imported when it runs."""

for _name, _help in UPKEEP.items():
    app.command(f"services.cli.upkeep:{_name.replace('-', '_')}", name=_name, help=_help)
