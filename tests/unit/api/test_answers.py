"""Whole answers as NetBird's clients read them (reference control-plane §6). Those of routes: test_routes.py."""

from typing import Any

from shared.events.facts import ReportFact, SessionFact
from tests.builders import NOW, peer
from tests.unit.api.world import World

GATEWAYS = {"id": "gateways", "name": "gateways", "peers_count": 2, "resources_count": 0, "issued": "api"}
ALL = {"id": "all", "name": "All", "peers_count": 3, "resources_count": 0, "issued": "api"}
LOCAL_FLAGS = (
    "rosenpass_enabled",
    "rosenpass_permissive",
    "server_ssh_allowed",
    "disable_client_routes",
    "disable_server_routes",
    "disable_dns",
    "disable_firewall",
    "block_lan_access",
    "block_inbound",
    "lazy_connection_enabled",
)
AT = "2023-11-14T22:13:20Z"
NEVER = "0001-01-01T00:00:00Z"


def addresses(world: World, peer: str) -> dict[str, str]:
    return {"ip": world.state.peers[peer].address_v4, "ipv6": world.state.peers[peer].address_v6}


async def test_a_peer() -> None:
    world = World()
    assert await world.get("peers/gw") == {
        "id": "gw",
        "name": "gw",
        "created_at": AT,
        **addresses(world, "gw"),
        "connection_ip": "",
        "connected": False,
        "last_seen": AT,
        "os": "Debian",
        "kernel_version": "",
        "geoname_id": 0,
        "version": "1.0.0",
        "groups": [ALL, GATEWAYS],
        "ssh_enabled": False,
        "user_id": "",
        "hostname": "gw",
        "ui_version": "",
        "dns_label": "gw.whimbrel.test",
        "login_expiration_enabled": False,
        "login_expired": False,
        "last_login": AT,
        "inactivity_expiration_enabled": False,
        "approval_required": False,
        "country_code": "",
        "city_name": "",
        "serial_number": "",
        "extra_dns_labels": [],
        "ephemeral": False,
        "draining": False,
        "warnings": [],
        "local_flags": dict.fromkeys(LOCAL_FLAGS, False),
    }


async def test_a_peer_with_extra_labels_and_without_ipv6() -> None:
    world = World(peer("db", address_v6="", extra_dns_labels=("sql", "pg")))
    shown = await world.get("peers/db")
    assert shown["extra_dns_labels"] == ["sql.whimbrel.test", "pg.whimbrel.test"]
    listed = {p["id"]: p for p in await world.get("peers")}["db"]
    reached = {p["id"]: p for p in await world.get("peers/gw/accessible-peers")}["db"]
    assert all("ipv6" not in answer for answer in (shown, listed, reached))
    assert listed == {name: value for name, value in shown.items() if name not in ("local_flags", "warnings")} | {
        "accessible_peers_count": 3
    }


async def test_a_peer_shows_what_was_last_observed_of_it() -> None:
    world = World()
    world.server.facts.sessions[world.account, "gw"] = SessionFact(
        peer_id="gw", epoch=1, connected=True, since=NOW + 60.25
    )
    world.server.facts.reports[world.account, "gw"] = ReportFact(
        peer_id="gw",
        version="1.2.3",
        hostname="gw.lan",
        os="Debian 13",
        kernel="6.12.1",
        backend="kernel",
        desired_revision=1,
        applied_revision=1,
        pending=0,
    )
    shown = await world.get("peers/gw")
    observed = ("connected", "last_seen", "version", "hostname", "kernel_version")
    assert [shown[field] for field in observed] == [True, "2023-11-14T22:14:20.250000Z", "1.2.3", "gw.lan", "6.12.1"]


async def test_an_accessible_peer() -> None:
    world = World()
    assert (await world.get("peers/laptop/accessible-peers"))[0] == {
        "id": "gw",
        "name": "gw",
        **addresses(world, "gw"),
        "dns_label": "gw.whimbrel.test",
        "user_id": "",
        "os": "Debian",
        "country_code": "",
        "city_name": "",
        "geoname_id": 0,
        "connected": False,
        "last_seen": AT,
    }


async def test_a_group() -> None:
    assert await World().get("groups/gateways") == {
        **GATEWAYS,
        "peers": [{"id": "gw", "name": "gw"}, {"id": "gw2", "name": "gw2"}],
        "resources": [],
    }


async def test_a_policy() -> None:
    assert await World().get("policies/Default") == {
        "id": "Default",
        "name": "Default",
        "description": "",
        "enabled": True,
        "source_posture_checks": [],
        "rules": [
            {
                "id": "Default-rule",
                "name": "Default-rule",
                "description": "",
                "enabled": True,
                "action": "accept",
                "bidirectional": True,
                "protocol": "all",
                "sources": [ALL],
                "destinations": [ALL],
            }
        ],
    }


async def test_a_policy_with_everything() -> None:
    rule: dict[str, Any] = {
        "name": "r",
        "description": "d",
        "enabled": True,
        "action": "drop",
        "bidirectional": True,
        "protocol": "udp",
        "port_ranges": [{"start": 53, "end": 53}, {"start": 8000, "end": 8010}],
        "sourceResource": {"id": "laptop", "type": "peer"},
        "destinations": ["gateways"],
    }
    body = {"name": "p", "description": "", "enabled": False, "rules": [rule]}
    assert (await World().call("POST", "policies", body)).json() == {
        "id": "new-1",
        "name": "p",
        "description": "",
        "enabled": False,
        "source_posture_checks": [],
        "rules": [{**rule, "id": "new-2", "destinations": [GATEWAYS]}],
    }


async def test_a_nameserver_group() -> None:
    assert await World().get("dns/nameservers") == [
        {
            "id": "corp",
            "name": "corp",
            "description": "",
            "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}],
            "enabled": True,
            "groups": ["office"],
            "primary": False,
            "domains": ["bücher.example"],
            "search_domains_enabled": False,
        }
    ]


async def test_a_setup_key() -> None:
    assert await World().get("setup-keys/valid") == {
        "id": "valid",
        "name": "valid",
        "key": "VALID*******************************",
        "type": "reusable",
        "state": "valid",
        "valid": True,
        "revoked": False,
        "used_times": 0,
        "usage_limit": 0,
        "last_used": NEVER,
        "expires": NEVER,
        "updated_at": AT,
        "auto_groups": ["office"],
        "ephemeral": False,
        "allow_extra_dns_labels": False,
    }


async def test_events_come_newest_first_with_every_value_as_text() -> None:
    world = World()
    body = {"network_id": "dmz", "network": "10.1.0.0/24", "peer_groups": ["gateways"], "metric": 1, "groups": ["all"]}
    await world.call("POST", "routes", body)
    await world.call("PUT", "groups/office", {"name": "office", "peers": ["laptop", "gw"]}, caller="network admin")
    events = await world.get("events/audit")
    assert [(e["activity_code"], e["target_id"], e["initiator_name"]) for e in events] == [
        ("peer.group.add", "gw", "Network-Admin"),
        ("route.add", "new-1", "Owner"),
    ]
    assert events[1] == {
        "id": f"{world.revision - 1}.0",
        "timestamp": AT,
        "activity": "Route created",
        "activity_code": "route.add",
        "initiator_id": "owner",
        "initiator_name": "Owner",
        "initiator_email": "owner@example.com",
        "target_id": "new-1",
        "meta": {
            "name": "dmz",
            "network_range": "10.1.0.0/24",
            "domains": "",
            "peer_id": "",
            "peer_groups": "gateways",
        },
    }
    assert events == await world.get("events")


async def test_what_one_commit_did_comes_last_thing_first() -> None:
    world = World()
    await world.call("POST", "groups", {"name": "new", "peers": ["gw"]})
    events = [(event["id"], event["activity_code"]) for event in await world.get("events")]
    assert events == [(f"{world.revision}.1", "peer.group.add"), (f"{world.revision}.0", "group.add")]


async def test_the_current_user() -> None:
    shown = await World().get("users/current", caller="network admin")
    permissions = shown.pop("permissions")
    assert shown == {
        "id": "network-admin",
        "email": "network-admin@example.com",
        "name": "Network-Admin",
        "role": "network_admin",
        "status": "active",
        "last_login": NEVER,
        "auto_groups": [],
        "is_current": True,
        "is_service_user": False,
        "is_blocked": False,
        "pending_approval": False,
        "issued": "api",
    }
    everything = {"create": True, "read": True, "update": True, "delete": True}
    looking = {"create": False, "read": True, "update": False, "delete": False}
    networks = ("routes", "groups", "policies", "nameservers", "dns")
    others = ("peers", "setup_keys", "events", "users", "accounts", "settings")
    nothing = dict.fromkeys(looking, False)
    not_served = ("networks", "pats")
    assert permissions == {
        "is_restricted": False,
        "modules": dict.fromkeys(networks, everything)
        | dict.fromkeys(others, looking)
        | dict.fromkeys(not_served, nothing),
    }


async def test_a_user_without_a_role_that_may_anything_is_restricted() -> None:
    shown = await World().get("users/current", caller="user")
    assert shown["permissions"]["is_restricted"] is True


async def test_users_are_listed_with_who_is_asking() -> None:
    listed = await World().get("users", caller="auditor")
    assert [user["id"] for user in listed if user["is_current"]] == ["auditor"]
    assert {user["status"] for user in listed if user["is_blocked"]} == {"blocked"}
    assert all("permissions" not in user for user in listed)


async def test_the_account() -> None:
    world = World()
    assert await world.get("accounts") == [
        {
            "id": world.account,
            "settings": {
                "peer_login_expiration_enabled": True,
                "peer_login_expiration": 86400,
                "peer_inactivity_expiration_enabled": False,
                "peer_inactivity_expiration": 600,
                "groups_propagation_enabled": True,
                "regular_users_view_blocked": True,
                "routing_peer_dns_resolution_enabled": True,
                "resolver_nameservers": [],
                "dns_domain": "whimbrel.test",
                "network_range": "100.64.0.0/16",
                "network_range_v6": "fd00:64::/64",
            },
            "domain": "",
            "domain_category": "private",
            "created_at": AT,
            "created_by": "",
        }
    ]


async def test_ready_while_nothing_is_wrong() -> None:
    world = World()
    answer = await world.call("GET", "/healthz", caller="nobody")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "revision": world.server.intent.sequence, "troubles": []},
    )
    world.server.troubles.arise("log", "the log is 12 s behind")
    try:
        answer = await world.call("GET", "/healthz", caller="nobody")
        probed = await world.call("HEAD", "/healthz", caller="nobody")
        read = await world.call("GET", "groups")
    finally:
        world.server.troubles.end("log")
    assert (answer.status_code, answer.json()["troubles"]) == (503, ["the log is 12 s behind"])
    assert answer.json()["status"] == "read-only"
    assert (probed.status_code, probed.content) == (503, b"")
    assert read.status_code == 200
    assert (await world.call("HEAD", "/healthz", caller="nobody")).status_code == 200


async def test_a_replica_that_reads_is_ready_for_a_balancer_though_it_takes_no_changes() -> None:
    """It is not taken out: the others take none either."""
    world = World()
    world.server.troubles.arise("disk", "the disk of the bus is full")
    try:
        health, ready = [await world.call("GET", path, caller="nobody") for path in ("/healthz", "/readyz")]
        probed = [(await world.call("HEAD", path, caller="nobody")).status_code for path in ("/healthz", "/readyz")]
        world.server.troubles.arise("log", "the log is empty", serves=False)
        empty = await world.call("GET", "/readyz", caller="nobody")
    finally:
        world.server.troubles.end("disk")
        world.server.troubles.end("log")
    assert (health.status_code, ready.status_code) == (503, 200)
    assert probed == [503, 200]
    assert health.json() == ready.json()
    assert (ready.json()["status"], ready.json()["troubles"]) == ("read-only", ["the disk of the bus is full"])
    assert empty.status_code == 503
    assert (await world.call("GET", "/readyz", caller="nobody")).json()["status"] == "ok"


async def test_while_nothing_can_be_served_every_answer_says_why() -> None:
    world = World()
    world.server.troubles.arise("log", "the log is empty: restore the backup", serves=False)
    try:
        health = await world.call("GET", "/healthz", caller="nobody")
        for caller in ("owner", "nobody"):
            answer = await world.call("GET", "groups", caller=caller)
            assert (answer.status_code, answer.json()) == (
                503,
                {"message": "the log is empty: restore the backup", "code": 503},
            )
            assert answer.headers["Retry-After"] == "1"
    finally:
        world.server.troubles.end("log")
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")


async def test_metrics_count_requests_by_path_template_and_never_by_id() -> None:
    world = World()
    await world.call("GET", "routes/lan")
    await world.call("GET", "routes/missing-route")
    answer = await world.call("GET", "/metrics", caller="nobody")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    for status in ("200", "404"):
        labels = f'method="GET",path="/api/routes/{{id}}",status="{status}"'
        assert f"whimbrel_api_request_seconds_count{{{labels}}}" in answer.text
    assert "missing-route" not in answer.text
