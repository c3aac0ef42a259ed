"""A client that was written for NetBird works unchanged (decision C1)."""

from collections.abc import Iterator
from typing import Any

import pytest
from netbird import APIClient
from netbird.exceptions import NetBirdAPIError, NetBirdNotFoundError, NetBirdValidationError
from netbird.models.account import AccountSettings
from netbird.models.dns_zone import DNSRecordCreate, DNSRecordUpdate, DNSZoneCreate, DNSZoneUpdate

from tests.support.api import served
from tests.unit.api.world import World, server

NAMESERVERS: dict[str, Any] = {
    "name": "office",
    "description": "the office's own names",
    "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}],
    "enabled": True,
    "groups": ["office"],
    "primary": False,
    "domains": ["corp.example"],
    "search_domains_enabled": False,
}


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with served(server().app) as address:
        yield address


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(api: str, world: World) -> Iterator[APIClient]:
    with APIClient(host=api, api_token=world.token("owner")) as client:
        yield client


def test_nameserver_groups(client: APIClient) -> None:
    created = client.dns.create_nameserver_group(NAMESERVERS)
    assert created == NAMESERVERS | {"id": created["id"]}
    assert created in client.dns.list_nameserver_groups()
    changed = client.dns.update_nameserver_group(
        created["id"], NAMESERVERS | {"enabled": False, "domains": ["b.example"]}
    )
    assert changed == client.dns.get_nameserver_group(created["id"])
    assert (changed["enabled"], changed["domains"]) == (False, ["b.example"])
    client.dns.delete_nameserver_group(created["id"])
    with pytest.raises(NetBirdNotFoundError, match="not found"):
        client.dns.get_nameserver_group(created["id"])


def test_a_refusal_of_nameservers_is_a_validation_error(client: APIClient) -> None:
    with pytest.raises(NetBirdValidationError, match="either primary or domains") as refused:
        client.dns.create_nameserver_group(NAMESERVERS | {"primary": True})
    assert refused.value.status_code == 422


def test_dns_settings(client: APIClient) -> None:
    assert client.dns.get_settings() == {"disabled_management_groups": []}
    wanted = {"disabled_management_groups": ["unused"]}
    assert client.dns.update_settings(wanted) == client.dns.get_settings() == wanted
    with pytest.raises(NetBirdAPIError, match="dns settings"):
        client.groups.delete("unused")


def test_zones_and_records(client: APIClient) -> None:
    zone = client.dns_zones.create(
        DNSZoneCreate(name="lan", domain="lan.example", enable_search_domain=True, distribution_groups=["office"])
    )
    assert (zone["domain"], zone["enabled"]) == ("lan.example", True)
    record = client.dns_zones.create_record(
        zone["id"], DNSRecordCreate(name="www.lan.example", type="A", content="10.0.0.80", ttl=300)
    )
    assert client.dns_zones.list_records(zone["id"]) == [record]
    same = {field: record[field] for field in ("name", "type", "content")}
    moved = client.dns_zones.update_record(zone["id"], record["id"], DNSRecordUpdate(**same, ttl=60))
    assert moved == client.dns_zones.get_record(zone["id"], record["id"]) == record | {"ttl": 60}
    kept = {field: zone[field] for field in ("name", "domain", "distribution_groups")}
    assert client.dns_zones.update(zone["id"], DNSZoneUpdate(**kept, enabled=False))["enabled"] is False
    client.dns_zones.delete_record(zone["id"], record["id"])
    client.dns_zones.delete(zone["id"])
    assert zone["id"] not in [other["id"] for other in client.dns_zones.list()]


def test_account_settings_that_stay_as_they_are(client: APIClient) -> None:
    [account] = client.accounts.list()
    settings = AccountSettings(peer_login_expiration_enabled=True, peer_login_expiration=86_400)
    assert client.accounts.update(account["id"], settings) == account


@pytest.mark.filterwarnings("ignore:Routes are deprecated by NetBird")
def test_what_was_there_before_dns(client: APIClient, world: World) -> None:
    assert {group["name"] for group in client.groups.list()} == {"All", "gateways", "office", "unused"}
    assert {peer["id"] for peer in client.peers.list()} == {"gw", "gw2", "laptop"}
    assert {route["network_id"] for route in client.routes.list()} == {"lan", "wiki"}
    assert [policy["name"] for policy in client.policies.list()] == ["Default"]
    assert client.users.get_current()["id"] == "owner"
    assert client.events.get_audit_events() == []
