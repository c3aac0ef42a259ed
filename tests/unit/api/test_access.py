"""Who may do what. Every endpoint is called by everybody (reference control-plane §1.9 and §8.3)."""

from typing import Any

import pytest

from tests.unit.api.world import World, problem

OUTSIDERS = {
    "blocked admin": 401,
    "admin with an expired token": 401,
    "unknown token": 401,
    "nobody": 401,
    "user": 403,
    "billing admin": 403,
}
READ = {
    "owner": 200,
    "admin": 200,
    "network admin": 200,
    "auditor": 200,
    "service user": 200,
    "admin service user": 200,
    **OUTSIDERS,
}
WRITE = {
    "owner": 200,
    "admin": 200,
    "network admin": 403,
    "auditor": 403,
    "service user": 403,
    "admin service user": 200,
    **OUTSIDERS,
}
WRITE_NETWORK = {**WRITE, "network admin": 200}

ROUTE = {"network_id": "dmz", "network": "10.1.0.0/24", "peer": "gw", "metric": 1, "groups": ["office"]}
RULE = {"name": "r", "action": "accept", "protocol": "all", "sources": ["office"], "destinations": ["gateways"]}
POLICY = {"name": "p", "rules": [RULE]}
KEY = {"name": "k", "type": "reusable"}
NAMESERVERS = {
    "name": "n",
    "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}],
    "primary": True,
    "groups": ["office"],
}
ZONE = {"name": "z", "domain": "z.example", "distribution_groups": ["office"]}
RECORD = {"name": "lab.example", "type": "A", "content": "10.0.0.1", "ttl": 1}
PEER = {"name": "gw", "ssh_enabled": True}

ENDPOINTS: list[tuple[str, str, Any, dict[str, int]]] = [
    ("GET", "routes", None, READ),
    ("GET", "routes/lan", None, READ),
    ("POST", "routes", ROUTE, WRITE_NETWORK),
    ("PUT", "routes/lan", ROUTE, WRITE_NETWORK),
    ("DELETE", "routes/lan", None, WRITE_NETWORK),
    ("GET", "groups", None, READ),
    ("GET", "groups/office", None, READ),
    ("POST", "groups", {"name": "g"}, WRITE_NETWORK),
    ("PUT", "groups/unused", {"name": "g"}, WRITE_NETWORK),
    ("DELETE", "groups/unused", None, WRITE_NETWORK),
    ("GET", "policies", None, READ),
    ("GET", "policies/Default", None, READ),
    ("POST", "policies", POLICY, WRITE_NETWORK),
    ("PUT", "policies/Default", POLICY, WRITE_NETWORK),
    ("DELETE", "policies/Default", None, WRITE_NETWORK),
    ("GET", "peers", None, READ),
    ("GET", "peers/gw", None, READ),
    ("GET", "peers/gw/accessible-peers", None, READ),
    ("PUT", "peers/gw", PEER, WRITE),
    ("DELETE", "peers/gw2", None, WRITE),
    ("GET", "dns/nameservers", None, READ),
    ("GET", "dns/nameservers/corp", None, READ),
    ("POST", "dns/nameservers", NAMESERVERS, WRITE_NETWORK),
    ("PUT", "dns/nameservers/corp", NAMESERVERS, WRITE_NETWORK),
    ("DELETE", "dns/nameservers/corp", None, WRITE_NETWORK),
    ("GET", "dns/settings", None, READ),
    ("PUT", "dns/settings", {"disabled_management_groups": ["office"]}, WRITE_NETWORK),
    ("GET", "dns/zones", None, READ),
    ("GET", "dns/zones/lab.example", None, READ),
    ("POST", "dns/zones", ZONE, WRITE_NETWORK),
    ("PUT", "dns/zones/lab.example", {**ZONE, "domain": "lab.example"}, WRITE_NETWORK),
    ("DELETE", "dns/zones/lab.example", None, WRITE_NETWORK),
    ("GET", "dns/zones/lab.example/records", None, READ),
    ("GET", "dns/zones/lab.example/records/www.lab.example", None, READ),
    ("POST", "dns/zones/lab.example/records", RECORD, WRITE_NETWORK),
    ("PUT", "dns/zones/lab.example/records/www.lab.example", RECORD, WRITE_NETWORK),
    ("DELETE", "dns/zones/lab.example/records/www.lab.example", None, WRITE_NETWORK),
    ("GET", "setup-keys", None, READ),
    ("GET", "setup-keys/valid", None, READ),
    ("POST", "setup-keys", KEY, WRITE),
    ("PUT", "setup-keys/valid", {"auto_groups": []}, WRITE),
    ("DELETE", "setup-keys/valid", None, WRITE),
    ("GET", "events", None, READ),
    ("GET", "events/audit", None, READ),
    ("GET", "users", None, READ),
    ("GET", "users/current", None, {**READ, "user": 200, "billing admin": 200}),
    ("GET", "accounts", None, READ),
    ("PUT", "accounts/{account}", {"settings": {"dns_domain": "new.test"}}, WRITE),
]


@pytest.mark.parametrize("caller", READ)
@pytest.mark.parametrize(("method", "path", "body", "expected"), ENDPOINTS, ids=[f"{e[0]} {e[1]}" for e in ENDPOINTS])
async def test_each_caller_gets_what_its_role_allows(
    method: str, path: str, body: Any, expected: dict[str, int], caller: str
) -> None:
    world = World()
    before = world.revision
    answer = await world.call(method, path, body, caller=caller)
    assert answer.status_code == expected[caller], answer.text
    if answer.status_code != 200:
        problem(answer)
        assert world.revision == before


async def test_an_account_does_not_see_anothers_objects() -> None:
    mine, other = World(), World()
    created = (await other.call("POST", "groups", {"name": "secret"})).json()
    assert problem(await mine.call("GET", f"groups/{created['id']}")) == (404, f"group {created['id']} not found")
    assert [group["name"] for group in await mine.get("groups")] == ["All", "gateways", "office", "unused"]
    assert [event["target_id"] for event in await mine.get("events")] == []


@pytest.mark.parametrize("scheme", ["Token", "token", "Bearer", "BEARER"])
async def test_a_token_is_taken_as_token_and_as_bearer(scheme: str) -> None:
    world = World()
    headers = {"Authorization": f"{scheme} {world.token('owner')}"}
    assert (await world.call("GET", "users/current", caller="nobody", headers=headers)).json()["id"] == "owner"


@pytest.mark.parametrize("header", ["", "Token", "Token ", "Basic b3duZXI6eA==", "nbp_x", "Bearer a.b.c", "Token \xff"])
async def test_anything_else_is_no_token(header: str) -> None:
    answer = await World().call("GET", "routes", caller="nobody", headers={"Authorization": header})
    assert problem(answer) == (401, "token missing, unknown, expired or its user is blocked")
    assert answer.headers["WWW-Authenticate"].startswith("Token ")


async def test_a_refused_caller_does_not_learn_what_exists() -> None:
    world = World()
    for path in ("routes/lan", "routes/missing"):
        assert problem(await world.call("PUT", path, content=b"{", caller="user"))[0] == 403
        assert problem(await world.call("PUT", path, content=b"{", caller="nobody"))[0] == 401
