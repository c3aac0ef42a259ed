"""`whimbrel admin setup-keys`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.options import one_of
from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.errors import Failed
from shared.duration import parse_duration

app = App(name="setup-keys", help="Keys that let hosts enrol.", help_format="markdown")

Key = Annotated[str, Parameter(help="Id or name of the key, not the key itself.")]
AutoGroups = Annotated[
    list[str],
    Parameter(name=("--auto-groups", "--auto-group"), help="Group that hosts join with the key.", negative=""),
]

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "TYPE": "type",
    "STATE": "state",
    "USED": "used_times",
    "LIMIT": lambda row: row["usage_limit"] or "none",
    "EXPIRES": lambda row: _time(row["expires"]),
    "KEY": "key",
}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the keys; of each only its beginning is known.

    ```
    whimbrel admin setup-keys list
    ```
    """
    keys = Client(connection).get("/setup-keys")
    if connection.json:
        print_json(keys)
    else:
        print_table(keys, COLUMNS)


@app.command
def get(key: Key, /, *, connection: Connection = Connection()) -> None:
    """Show one key; of the key itself only its beginning is known.

    ```
    whimbrel admin setup-keys get offices
    ```
    """
    client = Client(connection)
    _show(connection, client, client.find("setup-keys", key, "setup key"))


@app.command
def create(
    *,
    name: str,
    type: Literal["reusable", "one-off"] = "reusable",
    expires_in: Annotated[str, Parameter(help="How long it is good for, as 30d or 12h; 0 is for ever.")] = "30d",
    usage_limit: Annotated[int, Parameter(help="How many hosts may use it; 0 is any number.")] = 0,
    auto_groups: AutoGroups | None = None,
    ephemeral: Annotated[bool, Parameter(help="Hosts that enrol with it are removed once they are gone.")] = False,
    allow_extra_dns_labels: bool = False,
    quiet: Annotated[bool, Parameter(negative="", help="Print the key and nothing else.")] = False,
    output: Annotated[
        Path | None, Parameter(help="New file that gets the key, for its owner's eyes; it is not printed then.")
    ] = None,
    connection: Connection = Connection(),
) -> None:
    """Create a key. It is shown this once; the server keeps only its hash.

    ```
    whimbrel admin setup-keys create --name offices --expires-in 7d
    whimbrel admin setup-keys create --name offices --output ./key
    ```
    """
    one_of({"--quiet": quiet or None, "--json": connection.json or None, "--output": output}, needed=False)
    client = Client(connection)
    request: Object = {
        "name": name,
        "type": type,
        "expires_in": _seconds(expires_in),
        "usage_limit": usage_limit,
        "auto_groups": client.ids("groups", auto_groups or [], "group"),
        "ephemeral": ephemeral,
        "allow_extra_dns_labels": allow_extra_dns_labels,
    }
    with _new_file(output) as file:  # before the key: a name that is taken or a folder that is not there costs none
        created = client.post("/setup-keys", request)
        if file is not None:
            file.write(created["key"] + "\n")
    if quiet:
        print(created["key"])
    elif output is not None:
        _show(connection, client, created | {"key": f"in {output}"})
    else:
        _show(connection, client, created)
        if not connection.json:
            print("keep the key: it is not shown again", file=sys.stderr)


@app.command
def update(
    key: Key,
    /,
    *,
    revoke: Annotated[bool, Parameter(help="Let nobody enrol with it any more; this is final.", negative="")] = False,
    auto_groups: AutoGroups | None = None,
    connection: Connection = Connection(),
) -> None:
    """Revoke a key, or change the groups that hosts join with it. An empty --auto-group takes all of them away.

    ```
    whimbrel admin setup-keys update offices --revoke
    ```
    """
    client = Client(connection)
    found = client.find("setup-keys", key, "setup key")
    groups = None if auto_groups is None else client.ids("groups", [group for group in auto_groups if group], "group")
    revised = client.revise(
        f"/setup-keys/{found['id']}",
        lambda current: {
            "revoked": revoke or current["revoked"],
            "auto_groups": current["auto_groups"] if groups is None else groups,
        },
    )
    _show(connection, client, revised)


@app.command
def delete(key: Key, /, *, connection: Connection = Connection()) -> None:
    """Delete a key that no host has enrolled with. Otherwise revoke it.

    ```
    whimbrel admin setup-keys delete offices
    ```
    """
    client = Client(connection)
    found = client.find("setup-keys", key, "setup key")
    answer = client.delete(f"/setup-keys/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted setup key {found['id']} ({found['name']})")


@contextmanager
def _new_file(path: Path | None) -> Iterator[IO[str] | None]:
    """An empty file of mode 0600 that was not there before, written through at the end; gone if the block fails."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise Failed(f"--output {path}: {problem.strerror}: name a new file in a folder that is there") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise


def _seconds(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise Failed(f"--expires-in: {problem}") from None


def _show(connection: Connection, client: Client, key: Object) -> None:
    if connection.json:
        return print_json(key)
    groups = client.names("groups") if key["auto_groups"] else {}
    readable = {
        "last_used": _time(key["last_used"]),
        "expires": _time(key["expires"]),
        "usage_limit": key["usage_limit"] or "none",
        "auto_groups": [groups.get(id, id) for id in key["auto_groups"]],
    }
    return print_object(key | readable)


def _time(text: str) -> str:
    """As it is; the year 1 is how the API writes that there is none."""
    return "never" if text.startswith("0001-") else text
