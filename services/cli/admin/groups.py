"""`whimbrel admin groups`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.output import Columns, names, print_json, print_object, print_table

app = App(name="groups", help="Named sets of peers.", help_format="markdown")

Group = Annotated[str, Parameter(help="Id or name of the group.")]
Peers = Annotated[list[str], Parameter(name=("--peers", "--peer"), help="Peer that is a member.", negative="")]
AddPeers = Annotated[list[str], Parameter(name="--add-peer", help="Peer that becomes a member.", negative="")]
RemovePeers = Annotated[list[str], Parameter(name="--remove-peer", help="Peer that no longer is one.", negative="")]

COLUMNS: Columns = {"ID": "id", "NAME": "name", "PEERS": "peers_count", "MEMBERS": names("peers"), "ISSUED": "issued"}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the groups.

    ```
    whimbrel admin groups list
    ```
    """
    groups = Client(connection).get("/groups")
    if connection.json:
        print_json(groups)
    else:
        print_table(groups, COLUMNS)


@app.command
def get(group: Group, /, *, connection: Connection = Connection()) -> None:
    """Show one group.

    ```
    whimbrel admin groups get All
    ```
    """
    _show(connection, Client(connection).find("groups", group, "group"))


@app.command
def create(*, name: str, peers: Peers | None = None, connection: Connection = Connection()) -> None:
    """Create a group.

    ```
    whimbrel admin groups create --name servers --peer gw
    ```
    """
    client = Client(connection)
    _show(connection, client.post("/groups", {"name": name, "peers": client.ids("peers", peers or [], "peer")}))


@app.command
def update(
    group: Group,
    /,
    *,
    name: str | None = None,
    peers: Peers | None = None,
    add_peers: AddPeers | None = None,
    remove_peers: RemovePeers | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest; --peers replaces all members.

    ```
    whimbrel admin groups update servers --name web-servers
    whimbrel admin groups update servers --add-peer laptop \\
      --remove-peer gw
    ```
    """
    client = Client(connection)
    found = client.find("groups", group, "group")
    replaced = None if peers is None else client.ids("peers", peers, "peer")
    added, removed = (client.ids("peers", given or [], "peer") for given in (add_peers, remove_peers))

    def change(current: Object) -> Object:
        members = [peer["id"] for peer in current["peers"]] if replaced is None else replaced
        members = [peer for peer in (*members, *added) if peer not in removed]
        return {
            "name": current["name"] if name is None else name,
            "peers": list(dict.fromkeys(members)),
            "resources": current["resources"],
        }

    _show(connection, client.revise(f"/groups/{found['id']}", change))


@app.command
def delete(group: Group, /, *, connection: Connection = Connection()) -> None:
    """Delete a group that nothing refers to.

    ```
    whimbrel admin groups delete servers
    ```
    """
    client = Client(connection)
    found = client.find("groups", group, "group")
    answer = client.delete(f"/groups/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted group {found['id']} ({found['name']})")


def _show(connection: Connection, group: Object) -> None:
    if connection.json:
        print_json(group)
    else:
        print_object(group)
