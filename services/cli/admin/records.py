"""`whimbrel admin records`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.admin.zones import PATH, Zone
from services.cli.core.names import choose_record
from services.cli.errors import Failed

app = App(name="records", help="The records of a zone.", help_format="markdown")

Record = Annotated[str, Parameter(help="Id of the record, or its name: whole, or without the zone's domain.")]
Type = Annotated[str, Parameter(name="--type", help="A, AAAA or CNAME.")]
Content = Annotated[str, Parameter(help="Address, or the name that a CNAME stands for.")]
Ttl = Annotated[int, Parameter(help="Seconds that an answer may be kept.")]

USUAL_TTL_S = 300

COLUMNS: Columns = {"ID": "id", "NAME": "name", "TYPE": "type", "CONTENT": "content", "TTL": "ttl"}


@app.command(name="list")
def list_(zone: Zone, /, *, connection: Connection = Connection()) -> None:
    """List the records of a zone.

    ```
    whimbrel admin records list corp
    ```
    """
    records = Client(connection).find(PATH, zone, "zone")["records"]
    if connection.json:
        print_json(records)
    else:
        print_table(records, COLUMNS)


@app.command
def get(zone: Zone, record: Record, /, *, type: Type | None = None, connection: Connection = Connection()) -> None:
    """Show one record of a zone; --type says which, where a name has several.

    ```
    whimbrel admin records get corp wiki
    ```
    """
    _show(connection, _found(Client(connection).find(PATH, zone, "zone"), record, type))


@app.command
def create(
    zone: Zone,
    /,
    *,
    name: str,
    type: Type,
    content: Content,
    ttl: Ttl = USUAL_TTL_S,
    connection: Connection = Connection(),
) -> None:
    """Add a record to a zone; its name is whole, or without the zone's domain.

    ```
    whimbrel admin records create corp --name wiki \\
      --type A --content 10.0.0.80
    whimbrel admin records create corp --name www.corp.example \\
      --type CNAME --content wiki.corp.example --ttl 60
    ```
    """
    client = Client(connection)
    found = client.find(PATH, zone, "zone")
    body: Object = {"name": _whole(found, name), "type": type.upper(), "content": content, "ttl": ttl}
    _show(connection, client.post(f"/{PATH}/{found['id']}/records", body))


@app.command
def update(
    zone: Zone,
    record: Record,
    /,
    *,
    type: Type | None = None,
    name: str | None = None,
    content: Content | None = None,
    ttl: Ttl | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest; --type says which record, where a name has several.

    ```
    whimbrel admin records update corp wiki --content 10.0.0.81
    whimbrel admin records update corp wiki --type A --ttl 60
    ```
    """
    client = Client(connection)
    found = client.find(PATH, zone, "zone")
    one = _found(found, record, type)
    given: Object = {"name": None if name is None else _whole(found, name), "content": content, "ttl": ttl}
    changed = {field: value for field, value in given.items() if value is not None}

    def change(current: Object) -> Object:
        return {field: value for field, value in (current | changed).items() if field != "id"}

    _show(connection, client.revise(f"/{PATH}/{found['id']}/records/{one['id']}", change))


@app.command
def delete(zone: Zone, record: Record, /, *, type: Type | None = None, connection: Connection = Connection()) -> None:
    """Delete a record of a zone; --type says which, where a name has several.

    ```
    whimbrel admin records delete corp wiki
    ```
    """
    client = Client(connection)
    found = client.find(PATH, zone, "zone")
    one = _found(found, record, type)
    answer = client.delete(f"/{PATH}/{found['id']}/records/{one['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted record {one['id']} ({one['name']} {one['type']} {one['content']})")


def _found(zone: Object, wanted: str, type: str | None) -> Object:
    found = choose_record(zone["records"], wanted, _whole(zone, wanted), type)
    if len(found) == 1:
        return found[0]
    of_type = f" of type {type.upper()}" if type else ""
    if not found:
        see = f"see `whimbrel admin records list {zone['name']}`"
        raise Failed(f"zone {zone['name']} has no record {wanted!r}{of_type}: {see}")
    ids = ", ".join(f"{one['id']} ({one['type']} {one['content']})" for one in found)
    raise Failed(f"zone {zone['name']} has {len(found)} records {wanted!r}{of_type}, give the id of one: {ids}")


def _whole(zone: Object, name: str) -> str:
    """The name with the zone's domain behind it."""
    domain, plain = zone["domain"], name.removesuffix(".")
    return plain if plain == domain or plain.endswith(f".{domain}") else f"{plain}.{domain}"


def _show(connection: Connection, record: Object) -> None:
    if connection.json:
        print_json(record)
    else:
        print_object(record)
