"""The API's own description, and the page that shows it."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from services.management.core.commands import (
    accountsettings,
    dnssettings,
    groups,
    nameservers,
    peers,
    policies,
    routes,
    setupkeys,
    zonerecords,
    zones,
)
from tests.unit.api.world import World, server

OPERATIONS = {
    "/api/routes": "get post",
    "/api/routes/{id}": "get put delete",
    "/api/groups": "get post",
    "/api/groups/{id}": "get put delete",
    "/api/policies": "get post",
    "/api/policies/{id}": "get put delete",
    "/api/peers": "get",
    "/api/peers/{id}": "get put delete",
    "/api/peers/{id}/accessible-peers": "get",
    "/api/dns/nameservers": "get post",
    "/api/dns/nameservers/{id}": "get put delete",
    "/api/dns/settings": "get put",
    "/api/dns/zones": "get post",
    "/api/dns/zones/{id}": "get put delete",
    "/api/dns/zones/{id}/records": "get post",
    "/api/dns/zones/{id}/records/{record_id}": "get put delete",
    "/api/setup-keys": "get post",
    "/api/setup-keys/{id}": "get put delete",
    "/api/events": "get",
    "/api/events/audit": "get",
    "/api/users": "get",
    "/api/users/current": "get",
    "/api/accounts": "get",
    "/api/accounts/{id}": "put",
    "/healthz": "get",
    "/readyz": "get",
    "/metrics": "get",
}
BODIES: dict[str, type[msgspec.Struct]] = {
    body.__name__: body
    for body in (
        routes.RouteRequest,
        groups.GroupRequest,
        policies.PolicyRequest,
        peers.PeerRequest,
        nameservers.NameserverGroupRequest,
        dnssettings.DnsSettingsRequest,
        accountsettings.AccountRequest,
        zones.ZoneRequest,
        zonerecords.ZoneRecordRequest,
        setupkeys.SetupKeyRequest,
        setupkeys.SetupKeyUpdate,
    )
}


async def description() -> dict[str, Any]:
    answer = await World().call("GET", "/api/openapi.json", caller="nobody")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from references(inner)


async def test_every_path_and_method_is_described_and_nothing_else() -> None:
    described = await description()
    assert {path: set(item) for path, item in described["paths"].items()} == {
        path: set(methods.split()) for path, methods in OPERATIONS.items()
    }


async def test_every_reference_leads_somewhere() -> None:
    described = await description()
    for reference in references(described):
        node: Any = described
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert node


async def test_every_operation_names_its_errors_its_parameters_and_itself() -> None:
    seen = set()
    for path, method, operation in operations(await description()):
        seen.add(operation["operationId"])
        assert operation["summary"]
        declared = [p["name"] for p in operation.get("parameters", []) if p.get("in") == "path"]
        assert declared == re.findall(r"{(\w+)}", path)
        if not path.startswith("/api/"):
            assert operation["security"] == [{}]
            continue
        assert {"200", "400", "401", "403", "404", "500"} <= set(operation["responses"])
        assert "ETag" in operation["responses"]["200"]["headers"]
        for status, response in operation["responses"].items():
            if status != "200":
                content = response["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert content["example"]["code"] == int(status)
        if method != "get":
            assert {"409", "412", "413", "422", "503"} <= set(operation["responses"])
            assert {"$ref": "#/components/parameters/IfMatch"} in operation["parameters"]
    assert len(seen) == sum(len(methods.split()) for methods in OPERATIONS.values())


async def test_every_body_has_an_example_that_the_api_can_read() -> None:
    examples = 0
    for _, method, operation in operations(await description()):
        if method not in ("post", "put"):
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        [name] = [reference.rpartition("/")[2] for reference in references(schema)]
        for example in schema["examples"]:
            body = msgspec.convert(example, BODIES[name])
            assert set(example) <= set(BODIES[name].__struct_fields__)
            assert any(getattr(body, field) is not None for field in example)
            examples += 1
    assert examples == 17


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_what_health_answers_when_it_does_not_serve_is_described(path: str) -> None:
    responses = (await description())["paths"][path]["get"]["responses"]
    assert set(responses) == {"200", "503"}
    schemas = [responses[status]["content"]["application/json"]["schema"] for status in ("200", "503")]
    assert schemas == [{"$ref": "#/components/schemas/Health"}] * 2


WHOLE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "RouteRequest": (
        "POST",
        "routes",
        {
            "network_id": "new",
            "description": "",
            "network": "10.9.0.0/24",
            "peer": "gw",
            "metric": 9,
            "masquerade": True,
            "enabled": True,
            "groups": ["office"],
            "access_control_groups": [],
            "keep_route": False,
            "skip_auto_apply": False,
        },
    ),
    "GroupRequest": ("POST", "groups", {"name": "new", "peers": ["gw"], "resources": []}),
    "PolicyRequest": (
        "POST",
        "policies",
        {
            "name": "new",
            "description": "",
            "enabled": True,
            "source_posture_checks": [],
            "rules": [{"action": "accept", "protocol": "all", "sources": [], "destinations": []}],
        },
    ),
    "PeerRequest": (
        "PUT",
        "peers/gw",
        {
            "name": "new",
            "ssh_enabled": True,
            "login_expiration_enabled": False,
            "inactivity_expiration_enabled": False,
            "approval_required": False,
            "draining": False,
            "ip": "100.64.0.77",
            "ipv6": "fd00:64::77",
        },
    ),
    "SetupKeyRequest": (
        "POST",
        "setup-keys",
        {
            "name": "new",
            "type": "reusable",
            "expires_in": 60,
            "auto_groups": ["office"],
            "usage_limit": 2,
            "ephemeral": False,
            "allow_extra_dns_labels": False,
        },
    ),
    "NameserverGroupRequest": (
        "POST",
        "dns/nameservers",
        {
            "name": "new",
            "description": "",
            "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}],
            "enabled": True,
            "groups": ["office"],
            "primary": False,
            "domains": ["corp.example"],
            "search_domains_enabled": False,
        },
    ),
    "ZoneRequest": (
        "POST",
        "dns/zones",
        {
            "name": "new",
            "domain": "new.example",
            "enabled": True,
            "enable_search_domain": False,
            "distribution_groups": ["office"],
        },
    ),
    "ZoneRecordRequest": (
        "POST",
        "dns/zones/lab.example/records",
        {"name": "wiki.lab.example", "type": "A", "content": "10.0.0.81", "ttl": 60},
    ),
    "AccountRequest": ("PUT", "accounts/{account}", {"settings": {}}),
    "SetupKeyUpdate": ("PUT", "setup-keys/valid", {"revoked": True, "auto_groups": []}),
}
ALTERNATIVES = {"network", "peer", "domains"}
"""One of several fields that there may be instead."""


@pytest.mark.parametrize("name", WHOLE)
async def test_what_a_body_cannot_go_without_is_what_the_description_requires(name: str) -> None:
    method, path, whole = WHOLE[name]
    schema = (await description())["components"]["schemas"][name]
    for field in whole.keys() - ALTERNATIVES:
        without = {other: value for other, value in whole.items() if other != field}
        status = (await World().call(method, path, without)).status_code
        assert (status == 422) is (field in schema["required"]), field
        assert status in (200, 422)


async def test_the_token_is_described() -> None:
    described = await description()
    assert described["openapi"].startswith("3.1")
    assert described["components"]["securitySchemes"]["token"]["name"] == "Authorization"
    assert described["security"] == [{"token": []}]


async def test_the_description_is_the_same_every_time() -> None:
    beside_the_page = await World().call("GET", "/api/docs/openapi.json", caller="nobody")
    assert await description() == await description() == beside_the_page.json()


async def test_the_page_and_all_it_loads_come_from_here() -> None:
    world = World()
    page = await world.call("GET", "/api/docs", caller="nobody")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "IfMatch" in page.text
    assert re.findall(r"https?://", page.text) == []
    loaded = re.findall(r"(?:src|href)=[\"']([^\"']+)", page.text)
    assert len(loaded) == 4
    for path in loaded:
        assert (await world.call("GET", path, caller="nobody")).status_code == 200


async def test_nothing_but_the_pages_assets_is_served_as_a_file() -> None:
    world = World()
    for path in ("../core.py", "..%2fcore.py", "%2e%2e/core.py", "/etc/passwd", "nothing.js"):
        assert (await world.call("GET", f"/api/docs/assets/{path}", caller="nobody")).status_code == 404


def test_every_route_of_the_application_is_described() -> None:
    described = {route.path for route in server().app.routes if not route.path.startswith("/api/docs")}
    assert {re.sub(r":\w+}", "}", path) for path in described} == set(OPERATIONS) | {"/api/openapi.json"}
