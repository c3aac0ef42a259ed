"""`whimbrel admin policies`. A policy made here has one rule; more rules per policy are for the API."""

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from services.cli.admin.client import Client, Connection, Object
from services.cli.admin.options import one_of
from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.core.ports import split_ports
from services.cli.errors import Failed

app = App(name="policies", help="Who may talk to whom.", help_format="markdown")

Policy = Annotated[str, Parameter(help="Id or name of the policy.")]
Sources = Annotated[list[str], Parameter(name=("--sources", "--source"), help="Group that may connect.", negative="")]
Destinations = Annotated[
    list[str],
    Parameter(name=("--destinations", "--destination"), help="Group that may be connected to.", negative=""),
]
SourcePeer = Annotated[str, Parameter(help="One peer instead of source groups.")]
DestinationPeer = Annotated[str, Parameter(help="One peer instead of destination groups.")]
Protocol = Annotated[Literal["all", "tcp", "udp", "icmp"], Parameter(help="What may pass.")]
Ports = Annotated[
    list[str], Parameter(name=("--ports", "--port"), help="Port or range, as 443 or 8000-8010.", negative="")
]
Action = Annotated[Literal["accept", "drop"], Parameter(help="What happens to traffic that matches.")]
Bidirectional = Annotated[bool, Parameter(help="Destinations may connect to sources as well.")]
COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "ENABLED": "enabled",
    "RULES": lambda row: "; ".join(_summary(rule) for rule in row["rules"]),
}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the policies.

    ```
    whimbrel admin policies list
    ```
    """
    client = Client(connection)
    policies = client.get("/policies")
    if connection.json:
        print_json(policies)
    else:
        print_table(_named(client, policies), COLUMNS)


@app.command
def get(policy: Policy, /, *, connection: Connection = Connection()) -> None:
    """Show one policy.

    ```
    whimbrel admin policies get Default
    ```
    """
    client = Client(connection)
    _show(connection, client, client.find("policies", policy, "policy"))


@app.command
def create(
    *,
    name: str,
    sources: Sources | None = None,
    destinations: Destinations | None = None,
    source_peer: SourcePeer | None = None,
    destination_peer: DestinationPeer | None = None,
    protocol: Protocol = "all",
    ports: Ports | None = None,
    action: Action = "accept",
    bidirectional: Bidirectional = False,
    enabled: bool = True,
    description: str = "",
    connection: Connection = Connection(),
) -> None:
    """Create a policy with one rule.

    ```
    whimbrel admin policies create --name web --source All \\
      --destination gateways --protocol tcp --port 443
    ```
    """
    one_of({"--source": sources, "--source-peer": source_peer}, needed=True)
    one_of({"--destination": destinations, "--destination-peer": destination_peer}, needed=True)
    client = Client(connection)
    rule: Object = {
        "name": name,
        "description": description,
        "enabled": True,
        "action": action,
        "bidirectional": bidirectional,
        "protocol": protocol,
    }
    rule |= _ports(ports or []) | _side(client, "source", sources, source_peer)
    rule |= _side(client, "destination", destinations, destination_peer)
    body = {"name": name, "description": description, "enabled": enabled, "rules": [_with_fitting_ports(rule)]}
    _show(connection, client, client.post("/policies", body))


@app.command
def update(
    policy: Policy,
    /,
    *,
    name: str | None = None,
    sources: Sources | None = None,
    destinations: Destinations | None = None,
    source_peer: SourcePeer | None = None,
    destination_peer: DestinationPeer | None = None,
    protocol: Protocol | None = None,
    ports: Ports | None = None,
    action: Action | None = None,
    bidirectional: Bidirectional | None = None,
    enabled: bool | None = None,
    description: str | None = None,
    connection: Connection = Connection(),
) -> None:
    """Change what is given and leave the rest. An empty --port permits all ports again.

    ```
    whimbrel admin policies update web --port 80 --port 443
    whimbrel admin policies update Default --no-enabled
    ```
    """
    one_of({"--source": sources, "--source-peer": source_peer}, needed=False)
    one_of({"--destination": destinations, "--destination-peer": destination_peer}, needed=False)
    client = Client(connection)
    found = client.find("policies", policy, "policy")
    changed = _given(name=name, description=description, enabled=enabled)
    of_rule = _given(protocol=protocol, action=action, bidirectional=bidirectional)
    if ports is not None:
        of_rule |= _ports(ports)
    of_rule |= _side(client, "source", sources, source_peer)
    of_rule |= _side(client, "destination", destinations, destination_peer)

    def change(current: Object) -> Object:
        rules = [_as_request(rule) for rule in current["rules"]]
        if of_rule and len(rules) != 1:
            raise Failed(f"policy {current['name']} has {len(rules)} rules: change them through the API")
        return current | changed | {"rules": [_with_fitting_ports(rule | of_rule) for rule in rules]}

    _show(connection, client, client.revise(f"/policies/{found['id']}", change))


@app.command
def delete(policy: Policy, /, *, connection: Connection = Connection()) -> None:
    """Delete a policy.

    ```
    whimbrel admin policies delete web
    ```
    """
    client = Client(connection)
    found = client.find("policies", policy, "policy")
    answer = client.delete(f"/policies/{found['id']}")
    if connection.json:
        print_json(answer)
    else:
        print(f"deleted policy {found['id']} ({found['name']})")


def _given(**fields: Any) -> Object:
    return {field: value for field, value in fields.items() if value is not None}


def _ports(texts: list[str]) -> Object:
    try:
        ports, ranges = split_ports(texts)
    except ValueError as problem:
        raise Failed(f"--port: {problem}") from None
    return {"ports": ports, "port_ranges": ranges}


def _side(client: Client, side: Literal["source", "destination"], groups: list[str] | None, peer: str | None) -> Object:
    """The fields of one side of a rule as given, nothing if that side is not."""
    if peer is not None:
        resource = {"id": client.find("peers", peer, "peer")["id"], "type": "peer"}
        return {f"{side}s": None, f"{side}Resource": resource}
    if groups is not None:
        return {f"{side}s": client.ids("groups", groups, "group"), f"{side}Resource": None}
    return {}


def _with_fitting_ports(rule: Object) -> Object:
    if rule["protocol"] in ("all", "icmp") and (rule.get("ports") or rule.get("port_ranges")):
        raise Failed(f'protocol {rule["protocol"]} has no ports: give --protocol tcp or udp, or --port "" for no ports')
    return rule


def _as_request(rule: Object) -> Object:
    """A rule as the API shows it, as the API takes it: groups by id, and only the kind of side and ports in use."""
    request = dict(rule)
    for side in ("source", "destination"):
        if request.get(f"{side}Resource"):
            request.pop(f"{side}s", None)
        else:
            request[f"{side}s"] = [group["id"] for group in request.get(f"{side}s") or []]
    return request


def _summary(rule: Object) -> str:
    ports = ",".join([*(rule.get("ports") or []), *map(_range, rule.get("port_ranges") or [])])
    way = "↔" if rule["bidirectional"] else "→"
    what = f"{rule['action']} {rule['protocol']}{' ' + ports if ports else ''}"
    off = "" if rule["enabled"] else " (off)"
    return f"{what} {_names(rule, 'source')} {way} {_names(rule, 'destination')}{off}"


def _range(ports: Object) -> str:
    start, end = ports["start"], ports["end"]
    return str(start) if start == end else f"{start}-{end}"


def _names(rule: Object, side: str) -> str:
    resource = rule.get(f"{side}Resource")
    if resource:
        return str(resource["name"])
    return ", ".join(group["name"] for group in rule.get(f"{side}s") or []) or "nobody"


def _named(client: Client, policies: list[Object]) -> list[Object]:
    """The policies with a name beside the id of each peer that a rule names."""
    peers = client.names("peers")

    def named(rule: Object) -> Object:
        sides = {side: rule[side] for side in ("sourceResource", "destinationResource") if side in rule}
        return rule | {side: one | {"name": peers.get(one["id"], one["id"])} for side, one in sides.items()}

    return [policy | {"rules": [named(rule) for rule in policy["rules"]]} for policy in policies]


def _show(connection: Connection, client: Client, policy: Object) -> None:
    if connection.json:
        print_json(policy)
    else:
        print_object(policy | {"rules": [_summary(rule) for rule in _named(client, [policy])[0]["rules"]]})
