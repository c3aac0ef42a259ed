"""`whimbrel admin zones`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.output import Columns, print_json, print_object, print_table

app = App(name="zones", help="Names that the account itself gives addresses to.", help_format="markdown")

PATH = "dns/zones"

Zone = Annotated[str, Parameter(help="Id or name of the zone.")]
Groups = Annotated[list[str], Parameter(name=("--groups", "--group"), help="Group that gets it.", negative="")]
Domain = Annotated[str, Parameter(help="What the names of its records end with, for good.")]
SearchDomain = Annotated[bool, Parameter(help="The domain is also tried behind names that are no whole ones.")]

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "DOMAIN": "domain",
    "RECORDS": lambda zone: len(zone["records"]),
    "GROUPS": "distribution_groups",
    "ENABLED": "enabled",
}
RECORDS: Columns = {"ID": "id", "RECORD": "name", "TYPE": "type", "CONTENT": "content", "TTL": "ttl"}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the zones.

    ```
    whimbrel admin zones list
    ```
    """
    client = Client(connection)
    zones = client.get(f"/{PATH}")
    if connection.json:
        return print_json(zones)
    return print_table(_readable(client, zones), COLUMNS)


@app.command
def get(zone: Zone, /, *, connection: Connection = Connection()) -> None:
    """Show one zone with its records.

    ```
    whimbrel admin zones get corp
    ```
    """
    client = Client(connection)
    _show(connection, client, client.find(PATH, zone, "zone"))


@app.command
def create(
    *,
    name: str,
    domain: Domain,
    groups: Groups,
    search_domain: SearchDomain = False,
    enabled: bool = True,
    connection: Connection = Connection(),
) -> None:
    """Create a zone; its records are made with `whimbrel admin records`.

    ```
    whimbrel admin zones create --name corp \\
      --domain corp.example --groups All
    ```
    """
    client = Client(connection)
    body: Object = {
        "name": name,
        "domain": domain,
        "enabled": enabled,
        "enable_search_domain": search_domain,
        "distribution_groups": client.ids("groups", groups, "group"),
    }
    _show(connection, client, client.post(f"/{PATH}", body))


@app.command
def update(
    zone: Zone,
    /,
    *,
    name: str | None = None,
    groups: Groups | None = None,
    search_domain: SearchDomain | None = None,
    enabled: bool | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest; the domain stays.

    ```
    whimbrel admin zones update corp --search-domain
    whimbrel admin zones update corp --no-enabled
    ```
    """
    client = Client(connection)
    found = client.find(PATH, zone, "zone")
    given: Object = {
        "name": name,
        "enabled": enabled,
        "enable_search_domain": search_domain,
        "distribution_groups": None if groups is None else client.ids("groups", groups, "group"),
    }
    changed = {field: value for field, value in given.items() if value is not None}

    def change(current: Object) -> Object:
        return {field: value for field, value in (current | changed).items() if field not in ("id", "records")}

    _show(connection, client, client.revise(f"/{PATH}/{found['id']}", change))


@app.command
def delete(zone: Zone, /, *, connection: Connection = Connection()) -> None:
    """Delete a zone and its records.

    ```
    whimbrel admin zones delete corp
    ```
    """
    client = Client(connection)
    found = client.find(PATH, zone, "zone")
    answer = client.delete(f"/{PATH}/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted zone {found['id']} ({found['name']}) with {len(found['records'])} records")


def _show(connection: Connection, client: Client, zone: Object) -> None:
    if connection.json:
        print_json(zone)
        return
    shown = _readable(client, [zone])[0]
    records = shown.pop("records")
    print_object(shown)
    if records:
        print()
        print_table(records, RECORDS)


def _readable(client: Client, zones: list[Object]) -> list[Object]:
    """The zones with names in place of the ids of groups."""
    names = client.names("groups")
    return [zone | {"distribution_groups": [names.get(id, id) for id in zone["distribution_groups"]]} for zone in zones]
