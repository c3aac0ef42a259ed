"""`whimbrel admin nameservers`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.options import one_of
from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.core.nameservers import nameserver, written

app = App(name="nameservers", help="Which nameservers answer the questions of whom.", help_format="markdown")

PATH = "dns/nameservers"
WHAT = "nameserver group"

Group = Annotated[str, Parameter(help="Id or name of the nameserver group.")]
Nameservers = Annotated[
    list[str],
    Parameter(name="--nameserver", help="Address, or address:port where it is not 53; up to three.", negative=""),
]
Groups = Annotated[list[str], Parameter(name=("--groups", "--group"), help="Group that gets it.", negative="")]
Primary = Annotated[bool, Parameter(help="They answer for everything that nothing else answers for.", negative="")]
Domains = Annotated[
    list[str], Parameter(name="--domain", help="Name that they answer for, with all below it.", negative="")
]
SearchDomains = Annotated[bool, Parameter(help="The domains are also tried behind names that are no whole ones.")]

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "NAMESERVERS": "nameservers",
    "ANSWER FOR": "domains",
    "GROUPS": "groups",
    "ENABLED": "enabled",
}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the nameserver groups.

    ```
    whimbrel admin nameservers list
    ```
    """
    client = Client(connection)
    groups = client.get(f"/{PATH}")
    if connection.json:
        return print_json(groups)
    return print_table(_readable(client, groups), COLUMNS)


@app.command
def get(group: Group, /, *, connection: Connection = Connection()) -> None:
    """Show one nameserver group.

    ```
    whimbrel admin nameservers get corp
    ```
    """
    client = Client(connection)
    _show(connection, client, client.find(PATH, group, WHAT))


@app.command
def create(
    *,
    name: str,
    nameservers: Nameservers,
    groups: Groups,
    primary: Primary | None = None,
    domains: Domains | None = None,
    search_domains: SearchDomains = False,
    enabled: bool = True,
    description: str = "",
    connection: Connection = Connection(),
) -> None:
    """Create a nameserver group: for its domains, or primary for everything.

    ```
    whimbrel admin nameservers create --name corp \\
      --nameserver 10.0.0.53 --domain corp.example --groups All
    whimbrel admin nameservers create --name everything \\
      --nameserver 9.9.9.9 --primary --groups All
    ```
    """
    one_of({"--primary": primary, "--domain": domains}, needed=True)
    client = Client(connection)
    body: Object = {
        "name": name,
        "description": description,
        "nameservers": list(map(nameserver, nameservers)),
        "enabled": enabled,
        "groups": client.ids("groups", groups, "group"),
        "primary": bool(primary),
        "domains": domains or [],
        "search_domains_enabled": search_domains,
    }
    _show(connection, client, client.post(f"/{PATH}", body))


@app.command
def update(
    group: Group,
    /,
    *,
    name: str | None = None,
    nameservers: Nameservers | None = None,
    groups: Groups | None = None,
    primary: Primary | None = None,
    domains: Domains | None = None,
    search_domains: SearchDomains | None = None,
    enabled: bool | None = None,
    description: str | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest; domains replace primary and the other way round.

    ```
    whimbrel admin nameservers update corp --no-enabled
    whimbrel admin nameservers update corp --primary
    ```
    """
    one_of({"--primary": primary, "--domain": domains}, needed=False)
    client = Client(connection)
    found = client.find(PATH, group, WHAT)
    given: Object = {
        "name": name,
        "description": description,
        "nameservers": None if nameservers is None else list(map(nameserver, nameservers)),
        "enabled": enabled,
        "groups": None if groups is None else client.ids("groups", groups, "group"),
        "search_domains_enabled": search_domains,
    }
    changed: Object = {field: value for field, value in given.items() if value is not None}
    if primary:
        changed = {"search_domains_enabled": False} | changed | {"primary": True, "domains": []}
    elif domains is not None:
        changed |= {"primary": False, "domains": domains}
    _show(connection, client, client.revise(f"/{PATH}/{found['id']}", lambda current: current | changed))


@app.command
def delete(group: Group, /, *, connection: Connection = Connection()) -> None:
    """Delete a nameserver group.

    ```
    whimbrel admin nameservers delete corp
    ```
    """
    client = Client(connection)
    found = client.find(PATH, group, WHAT)
    answer = client.delete(f"/{PATH}/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted nameserver group {found['id']} ({found['name']})")


def _show(connection: Connection, client: Client, group: Object) -> None:
    if connection.json:
        print_json(group)
    else:
        print_object(_readable(client, [group])[0])


def _readable(client: Client, groups: list[Object]) -> list[Object]:
    """The groups with names in place of ids, and nameservers as people write them."""
    names = client.names("groups")
    return [
        group
        | {"groups": [names.get(id, id) for id in group["groups"]]}
        | {"nameservers": list(map(written, group["nameservers"]))}
        | {"domains": group["domains"] or "everything else"}
        for group in groups
    ]
