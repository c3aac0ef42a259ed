"""`whimbrel admin peers`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.output import Columns, names, print_json, print_object, print_table

app = App(
    name="peers", help="Hosts with an agent. They are created by enrolling, with `whimbrel up`.", help_format="markdown"
)

Peer = Annotated[str, Parameter(help="Id, name, DNS name or overlay address of the peer.")]

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "ADDRESS": "ip",
    "IPV6": "ipv6",
    "CONNECTED": "connected",
    "LAST SEEN": "last_seen",
    "VERSION": "version",
    "DRAINING": "draining",
    "GROUPS": names("groups"),
}
REPLACED = ("name", "ssh_enabled", "login_expiration_enabled", "inactivity_expiration_enabled")
"""What the API takes as a whole; the rest it leaves where it is left out."""

REACHABLE: Columns = {"ID": "id", "NAME": "name", "ADDRESS": "ip", "DNS NAME": "dns_label", "CONNECTED": "connected"}


@app.command(name="list")
def list_(*, name: str | None = None, ip: str | None = None, connection: Connection = Connection()) -> None:
    """List the peers, or those whose name or overlay address holds what is given.

    ```
    whimbrel admin peers list
    whimbrel admin peers list --name gw
    ```
    """
    peers = Client(connection).get("/peers", name=name, ip=ip)
    if connection.json:
        print_json(peers)
    else:
        print_table(peers, COLUMNS)


@app.command
def get(peer: Peer, /, *, connection: Connection = Connection()) -> None:
    """Show one peer.

    ```
    whimbrel admin peers get gw
    ```
    """
    client = Client(connection)
    _show(connection, client.get(f"/peers/{client.find('peers', peer, 'peer')['id']}"))


@app.command
def accessible(peer: Peer, /, *, connection: Connection = Connection()) -> None:
    """List the peers that a peer may reach or be reached by.

    ```
    whimbrel admin peers accessible gw
    ```
    """
    client = Client(connection)
    reachable = client.get(f"/peers/{client.find('peers', peer, 'peer')['id']}/accessible-peers")
    if connection.json:
        print_json(reachable)
    else:
        print_table(reachable, REACHABLE)


@app.command
def update(
    peer: Peer,
    /,
    *,
    name: str | None = None,
    ssh_enabled: bool | None = None,
    login_expiration_enabled: bool | None = None,
    inactivity_expiration_enabled: bool | None = None,
    ip: Annotated[str | None, Parameter(help="New overlay address.")] = None,
    ipv6: Annotated[str | None, Parameter(help="New IPv6 overlay address.")] = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest.

    ```
    whimbrel admin peers update gw --name gateway
    ```
    """
    client = Client(connection)
    found = client.find("peers", peer, "peer")
    given: Object = {
        "name": name,
        "ssh_enabled": ssh_enabled,
        "login_expiration_enabled": login_expiration_enabled,
        "inactivity_expiration_enabled": inactivity_expiration_enabled,
    }
    changed = {field: value for field, value in given.items() if value is not None}
    addresses = {field: value for field, value in (("ip", ip), ("ipv6", ipv6)) if value is not None}
    _show(
        connection,
        client.revise(
            f"/peers/{found['id']}", lambda current: {field: current[field] for field in REPLACED} | changed | addresses
        ),
    )


@app.command
def drain(peer: Peer, /, *, connection: Connection = Connection()) -> None:
    """Have clients leave the routes that a peer serves for other routing peers, as long as it is drained.

    ```
    whimbrel admin peers drain gw
    ```
    """
    _set_draining(peer, connection, draining=True)


@app.command
def undrain(peer: Peer, /, *, connection: Connection = Connection()) -> None:
    """Let clients use the routes that a peer serves again.

    ```
    whimbrel admin peers undrain gw2
    ```
    """
    _set_draining(peer, connection, draining=False)


@app.command
def delete(peer: Peer, /, *, connection: Connection = Connection()) -> None:
    """Delete a peer that nothing refers to; its host loses the connection.

    ```
    whimbrel admin peers delete laptop
    ```
    """
    client = Client(connection)
    found = client.find("peers", peer, "peer")
    answer = client.delete(f"/peers/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted peer {found['id']} ({found['name']})")


def _set_draining(peer: str, connection: Connection, *, draining: bool) -> None:
    client = Client(connection)
    found = client.find("peers", peer, "peer")

    def change(current: Object) -> Object:
        return {field: current[field] for field in REPLACED} | {"draining": draining}

    _show(connection, client.revise(f"/peers/{found['id']}", change))


def _show(connection: Connection, peer: Object) -> None:
    if connection.json:
        print_json(peer)
    else:
        warnings = [f"{warning['code']}: {warning['message']}" for warning in peer["warnings"]]
        print_object({field: value for field, value in peer.items() if field != "local_flags"} | {"warnings": warnings})
