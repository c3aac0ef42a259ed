"""`whimbrel admin dns`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.output import print_json, print_object
from services.cli.core.nameservers import upstream, written

app = App(name="dns", help="How DNS works in the account.", help_format="markdown")

UnmanagedGroups = Annotated[
    list[str],
    Parameter(
        name="--unmanaged-group", help="Group whose hosts keep their DNS as it is.", negative="--no-unmanaged-groups"
    ),
]
ResolverNameservers = Annotated[
    list[str],
    Parameter(
        name="--resolver-nameserver",
        help="Whom the resolver asks for the names of routes: as of a nameserver, or tls://address#name; up to three.",
        negative="--no-resolver-nameservers",
    ),
]
Resolution = Annotated[bool, Parameter(help="Routing peers resolve the names of routes; wildcards need it.")]
Domain = Annotated[str, Parameter(help="What the names of the peers end with.")]


@app.command
def get(*, connection: Connection = Connection()) -> None:
    """Show how DNS works in the account.

    ```
    whimbrel admin dns get
    ```
    """
    client = Client(connection)
    _show(connection, client)


@app.command
def update(
    *,
    unmanaged_groups: UnmanagedGroups | None = None,
    resolver_nameservers: ResolverNameservers | None = None,
    routing_peer_resolution: Resolution | None = None,
    domain: Domain | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest.

    ```
    whimbrel admin dns update --unmanaged-group servers
    whimbrel admin dns update --resolver-nameserver 10.0.0.53 \\
      --resolver-nameserver tls://10.0.0.54#dns.example
    whimbrel admin dns update --no-resolver-nameservers
    whimbrel admin dns update --domain corp.internal
    ```
    """
    client = Client(connection)
    given: Object = {
        "resolver_nameservers": None if resolver_nameservers is None else list(map(upstream, resolver_nameservers)),
        "routing_peer_dns_resolution_enabled": routing_peer_resolution,
        "dns_domain": domain,
    }
    unmanaged = None if unmanaged_groups is None else client.ids("groups", unmanaged_groups, "group")
    settings = {field: value for field, value in given.items() if value is not None}
    if settings:
        [account] = client.get("/accounts")
        client.put(f"/accounts/{account['id']}", {"settings": settings})
    if unmanaged is not None:
        client.put("/dns/settings", {"disabled_management_groups": unmanaged})
    _show(connection, client)


def _show(connection: Connection, client: Client) -> None:
    [account] = client.get("/accounts")
    fields = ("dns_domain", "routing_peer_dns_resolution_enabled", "resolver_nameservers")
    shown: Object = {field: account["settings"][field] for field in fields} | client.get("/dns/settings")
    if connection.json:
        print_json(shown)
        return
    names = client.names("groups")
    shown["resolver_nameservers"] = list(map(written, shown["resolver_nameservers"])) or "its own"
    shown["disabled_management_groups"] = [names.get(id, id) for id in shown["disabled_management_groups"]]
    print_object(shown)
