"""`whimbrel admin routes`."""

from typing import Annotated

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.options import one_of
from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.errors import USAGE, Failed

app = App(name="routes", help="Networks and names behind routing peers.", help_format="markdown")

NAME = "network_id"

Route = Annotated[str, Parameter(help="Id or network id of the route.")]
NetworkId = Annotated[str, Parameter(help="Name of the network, 1 to 40 characters; equal ones make an HA set.")]
Network = Annotated[str, Parameter(help="Prefix to route, as 10.0.0.0/24.")]
Domains = Annotated[list[str], Parameter(name="--domain", help="Name to route instead of a prefix.", negative="")]
Peer = Annotated[str, Parameter(help="The routing peer.")]
PeerGroups = Annotated[list[str], Parameter(name="--peer-group", help="Group whose members route.", negative="")]
Groups = Annotated[list[str], Parameter(name=("--groups", "--group"), help="Group that gets the route.", negative="")]
Acl = Annotated[
    list[str],
    Parameter(
        name=("--access-control-groups", "--access-control-group"),
        help="Group that policies name as destination to permit traffic through the route.",
        negative="",
    ),
]
Metric = Annotated[int, Parameter(help="1 to 9999, lower is preferred.")]
Masquerade = Annotated[bool, Parameter(help="Hide clients behind the routing peer's address.")]
KeepRoute = Annotated[
    bool,
    Parameter(
        help="Prefix: stay without a routing peer. Names: keep their older addresses. On for names if not given."
    ),
]
SkipAutoApply = Annotated[bool, Parameter(help="Clients choose this exit route by hand.")]
Probe = Annotated[
    str,
    Parameter(help="What routing peers ask in the LAN: icmp:192.168.77.10 or tcp:192.168.77.10:8080; empty ends it."),
]
ProbeInterval = Annotated[int, Parameter(help="Milliseconds between two questions, 100 to 60000.")]
ReturnAddress = Annotated[
    str, Parameter(help="Free address of the LAN that the gateway in charge takes over; empty ends it.")
]

COLUMNS: Columns = {
    "ID": "id",
    "NETWORK ID": "network_id",
    "ROUTES": lambda row: row["domains"] or row["network"],
    "PEER": "peer",
    "PEER GROUPS": "peer_groups",
    "GROUPS": "groups",
    "METRIC": "metric",
    "ENABLED": "enabled",
}

SERVING: Columns = {
    "ROUTING PEER": "name",
    "CLIENTS": "clients",
    "CONNECTED": "connected",
    "DRAINING": "draining",
    "WITHDRAWN": "withdrawn",
    "HOLDS RETURN ADDRESS": "holds_return_address",
}


RESOLVED: Columns = {"NAME": "name", "ADDRESS": "address", "KEPT UNTIL": "kept_until", "ANSWERED BY": "source"}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the routes.

    ```
    whimbrel admin routes list
    ```
    """
    client = Client(connection)
    routes = client.get("/routes")
    if connection.json:
        return print_json(routes)
    return print_table(_named(client, routes), COLUMNS)


@app.command
def get(route: Route, /, *, connection: Connection = Connection()) -> None:
    """Show one route, who serves it, and how many clients are on each.

    ```
    whimbrel admin routes get office
    ```
    """
    client = Client(connection)
    found = client.find("routes", route, "route", name=NAME)
    _show(connection, client, client.get(f"/routes/{found['id']}"))


@app.command
def create(
    *,
    network_id: NetworkId,
    network: Network | None = None,
    domains: Domains | None = None,
    peer: Peer | None = None,
    peer_groups: PeerGroups | None = None,
    groups: Groups,
    access_control_groups: Acl | None = None,
    metric: Metric = 9999,
    masquerade: Masquerade = True,
    keep_route: KeepRoute | None = None,
    skip_auto_apply: SkipAutoApply = False,
    probe: Probe = "",
    probe_interval: ProbeInterval | None = None,
    return_address: ReturnAddress = "",
    enabled: bool = True,
    description: str = "",
    connection: Connection = Connection(),
) -> None:
    """Create a route.

    ```
    whimbrel admin routes create --network-id office \\
      --network 10.0.0.0/24 --peer gw --groups All
    whimbrel admin routes create --network-id wiki \\
      --domain wiki.example.com --peer-group gateways --groups All
    whimbrel admin routes create --network-id lab --peer-group gateways \\
      --network 192.168.77.0/24 --groups All --no-masquerade \\
      --probe icmp:192.168.77.10 --return-address 192.168.77.250
    ```
    """
    one_of({"--network": network, "--domain": domains}, needed=True)
    one_of({"--peer": peer, "--peer-group": peer_groups}, needed=True)
    client = Client(connection)
    body: Object = {
        "network_id": network_id,
        "description": description,
        "metric": metric,
        "masquerade": masquerade,
        "keep_route": bool(domains) if keep_route is None else keep_route,
        "skip_auto_apply": skip_auto_apply,
        "enabled": enabled,
        "groups": client.ids("groups", groups, "group"),
        "access_control_groups": client.ids("groups", access_control_groups or [], "group"),
    }
    body |= _destination(network, domains) | _router(client, peer, peer_groups)
    body |= _probe(probe, probe_interval) | ({"return_address": return_address} if return_address else {})
    _show(connection, client, client.post("/routes", body))


@app.command
def update(
    route: Route,
    /,
    *,
    network_id: NetworkId | None = None,
    network: Network | None = None,
    domains: Domains | None = None,
    peer: Peer | None = None,
    peer_groups: PeerGroups | None = None,
    groups: Groups | None = None,
    access_control_groups: Acl | None = None,
    metric: Metric | None = None,
    masquerade: Masquerade | None = None,
    keep_route: KeepRoute | None = None,
    skip_auto_apply: SkipAutoApply | None = None,
    probe: Probe | None = None,
    probe_interval: ProbeInterval | None = None,
    return_address: ReturnAddress | None = None,
    enabled: bool | None = None,
    description: str | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest.

    A network replaces domains and the other way round; a peer replaces peer groups and the other way round. An empty
    --access-control-group takes all of them away. A probe or a return address that does not fit the changed route goes,
    with a warning.

    ```
    whimbrel admin routes update office --no-masquerade
    whimbrel admin routes update office --no-enabled
    whimbrel admin routes update office --probe tcp:10.0.0.9:443
    ```
    """
    one_of({"--network": network, "--domain": domains}, needed=False)
    one_of({"--peer": peer, "--peer-group": peer_groups}, needed=False)
    client = Client(connection)
    found = client.find("routes", route, "route", name=NAME)
    given: Object = {
        "network_id": network_id,
        "description": description,
        "metric": metric,
        "masquerade": masquerade,
        "keep_route": keep_route,
        "skip_auto_apply": skip_auto_apply,
        "enabled": enabled,
        "groups": None if groups is None else client.ids("groups", groups, "group"),
        "access_control_groups": None
        if access_control_groups is None
        else client.ids("groups", [group for group in access_control_groups if group], "group"),
    }
    changed: Object = {field: value for field, value in given.items() if value is not None}
    if network is not None or domains is not None:
        changed |= {"network": None, "domains": None} | _destination(network, domains)
    if peer is not None or peer_groups is not None:
        changed |= {"peer": None, "peer_groups": None} | _router(client, peer, peer_groups)
    if return_address is not None:
        changed["return_address"] = return_address or None

    def change(current: Object) -> Object:
        return _as_request(current) | changed | _probe(probe, probe_interval, current)

    revised = client.revise(f"/routes/{found['id']}", change)
    _show(connection, client, revised)


@app.command
def delete(route: Route, /, *, connection: Connection = Connection()) -> None:
    """Delete a route.

    ```
    whimbrel admin routes delete office
    ```
    """
    client = Client(connection)
    found = client.find("routes", route, "route", name=NAME)
    answer = client.delete(f"/routes/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted route {found['id']} ({found[NAME]})")


def _destination(network: str | None, domains: list[str] | None) -> Object:
    return {name: value for name, value in (("network", network), ("domains", domains)) if value is not None}


def _router(client: Client, peer: str | None, peer_groups: list[str] | None) -> Object:
    """The field that was given."""
    router: Object = {}
    if peer is not None:
        router["peer"] = client.find("peers", peer, "peer")["id"] if peer else ""
    if peer_groups is not None:
        router["peer_groups"] = client.ids("groups", peer_groups, "group")
    return router


def _probe(given: str | None, interval: int | None, current: Object | None = None) -> Object:
    """The field as it is to be sent, nothing where nothing was given. current: the route as it is, None
    for a new one.
    """
    if given is None and interval is None:
        return {}
    if given is None:
        known = (current or {}).get("probe")
        if known is None:
            raise Failed("--probe-interval is of a probe, and the route has none: give --probe as well", USAGE)
        return {"probe": known | {"interval_ms": interval}}
    if not given:
        return {"probe": None}
    kind, _, target = given.partition(":")
    if kind not in ("icmp", "tcp") or not target:
        raise Failed(f"--probe {given!r}: write icmp:192.168.77.10 or tcp:192.168.77.10:8080", USAGE)
    return {"probe": {kind: target} | ({} if interval is None else {"interval_ms": interval})}


def _as_request(route: Object) -> Object:
    """A route as the API shows it, as the API takes it: of each pair that excludes each other, the one in use.

    Without what it has in the LAN: the API keeps what nobody names, or takes it away with a warning where it does not
    fit any more. What is named is asked for, and refused then.
    """
    unused = ["network" if route["domains"] else "domains", "peer" if route.get("peer_groups") else "peer_groups"]
    return {field: value for field, value in route.items() if field not in (*unused, "probe", "return_address")}


def _show(connection: Connection, client: Client, route: Object) -> None:
    if connection.json:
        print_json(route)
    else:
        warnings = [f"{warning['code']}: {warning['message']}" for warning in route["warnings"]]
        shown = _named(client, [route])[0] | {"warnings": warnings}
        status = shown.pop("status", None)
        print_object(shown)
        if status and status["routing_peers"]:
            print()
            print_table(status["routing_peers"], SERVING)
        if status and status["names"]:
            print()
            print_table(_resolved(client, status["names"]), RESOLVED)


def _resolved(client: Client, names: list[Object]) -> list[Object]:
    """A line for each address, with the name in place of the id of the routing peer that answered."""
    peers = {f"peer:{id}": f"routing peer {name}" for id, name in client.names("peers").items()}
    return [
        name | address | {"source": peers.get(name["source"], name["source"])}
        for name in names
        for address in name["addresses"]
    ]


def _named(client: Client, routes: list[Object]) -> list[Object]:
    """The routes with names in place of the ids of peers and groups."""
    peers, groups = client.names("peers"), client.names("groups")
    lists = ("peer_groups", "groups", "access_control_groups")
    return [
        route
        | {"peer": peers.get(route["peer"], route["peer"])}
        | {field: [groups.get(id, id) for id in route[field]] for field in lists if field in route}
        for route in routes
    ]
