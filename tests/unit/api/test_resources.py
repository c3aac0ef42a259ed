"""Groups, policies, peers and setup keys over REST (reference control-plane §1.5–§1.8 and §8.3).

A case is what is asked, the status, and what the answer holds besides everything else.
"""

from typing import Any

import pytest

from tests import builders
from tests.unit.api.world import World, problem

RULE: dict[str, Any] = {
    "name": "web",
    "enabled": True,
    "action": "accept",
    "bidirectional": False,
    "protocol": "tcp",
    "ports": ["80"],
    "sources": ["office"],
    "destinations": ["gateways"],
}


def policy(**rule: Any) -> dict[str, Any]:
    fields = {name: value for name, value in {**RULE, **rule}.items() if value is not None}
    return {"name": "web", "description": "", "enabled": True, "rules": [fields]}


def key(**fields: Any) -> dict[str, Any]:
    return {"name": "new", "type": "reusable", "expires_in": 86400, "auto_groups": [], "usage_limit": 0, **fields}


def nameservers(**fields: Any) -> dict[str, Any]:
    """Of a nameserver group for one domain; setting primary leaves the domain out."""
    plain = {"name": "new", "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}], "enabled": True}
    matched: dict[str, Any] = {"primary": False, "domains": [] if fields.get("primary") else ["corp.example"]}
    return {**plain, **matched, "groups": ["office"], "search_domains_enabled": False, **fields}


def _server(ip: str, port: int = 53) -> dict[str, Any]:
    return {"ip": ip, "ns_type": "udp", "port": port}


def server(**fields: Any) -> dict[str, Any]:
    """A nameserver group whose one server has these fields."""
    return nameservers(nameservers=[{"ip": "10.0.0.53", "ns_type": "udp", "port": 53, **fields}])


def zone(**fields: Any) -> dict[str, Any]:
    plain = {"name": "new", "domain": "new.example", "enabled": True, "enable_search_domain": False}
    return {**plain, "distribution_groups": ["office"], **fields}


def record(**fields: Any) -> dict[str, Any]:
    return {"name": "wiki.lab.example", "type": "A", "content": "10.0.0.81", "ttl": 60, **fields}


WWW = {"id": "www.lab.example", "name": "www.lab.example", "type": "A", "content": "10.0.0.80", "ttl": 300}
RECORDS = "dns/zones/lab.example/records"


def peer(**fields: Any) -> dict[str, Any]:
    plain = {"ssh_enabled": False, "login_expiration_enabled": False, "inactivity_expiration_enabled": False}
    return {"name": "gw", **plain, **fields}


ACCEPTED: list[tuple[str, str, Any, dict[str, Any]]] = [
    # groups
    ("GET", "groups/office", None, {"name": "office", "peers_count": 1, "peers": [{"id": "laptop", "name": "laptop"}]}),
    ("GET", "groups/all", None, {"name": "All", "peers_count": 3}),
    ("POST", "groups", {"name": "new"}, {"name": "new", "peers_count": 0, "peers": [], "issued": "api"}),
    ("POST", "groups", {"name": "new", "peers": ["gw"]}, {"peers_count": 1, "peers": [{"id": "gw", "name": "gw"}]}),
    ("POST", "groups", {"name": "new", "peers": None, "resources": None}, {"peers": [], "resources": []}),
    ("PUT", "groups/office", {"name": "bureau", "peers": ["laptop"]}, {"name": "bureau", "peers_count": 1}),
    ("PUT", "groups/office", {"name": "office", "peers": ["gw"]}, {"peers": [{"id": "gw", "name": "gw"}]}),
    ("PUT", "groups/office", {"name": "office"}, {"peers": []}),
    ("DELETE", "groups/unused", None, {}),
    # policies
    ("GET", "policies/Default", None, {"name": "Default", "enabled": True}),
    ("POST", "policies", policy(), {"name": "web"}),
    ("POST", "policies", policy(action="drop"), {"name": "web"}),
    ("POST", "policies", policy(protocol="all", ports=[]), {"name": "web"}),
    ("POST", "policies", policy(protocol="icmp", ports=None), {"name": "web"}),
    ("POST", "policies", policy(ports=None, port_ranges=[{"start": 1, "end": 65535}]), {"name": "web"}),
    ("POST", "policies", policy(sources=None, sourceResource={"id": "laptop", "type": "peer"}), {"name": "web"}),
    ("POST", "policies", policy(protocol="netbird-ssh", authorized_groups={"office": ["root"]}), {"name": "web"}),
    ("PUT", "policies/Default", {**policy(), "name": "renamed"}, {"id": "Default", "name": "renamed"}),
    ("PUT", "policies/Default", {**policy(), "enabled": False}, {"enabled": False}),
    ("PUT", "policies/Default", policy(id="Default-rule"), {"id": "Default"}),
    ("DELETE", "policies/Default", None, {}),
    # peers
    ("GET", "peers/gw", None, {"id": "gw", "name": "gw", "connected": False}),
    ("PUT", "peers/gw", peer(name="Gate Way"), {"name": "Gate Way", "dns_label": "gate-way.whimbrel.test"}),
    ("PUT", "peers/gw", peer(ssh_enabled=True), {"ssh_enabled": True}),
    ("PUT", "peers/gw", peer(ip="100.64.200.200"), {"ip": "100.64.200.200"}),
    ("PUT", "peers/laptop", peer(name="laptop"), {"login_expiration_enabled": False}),
    ("DELETE", "peers/gw2", None, {}),
    # nameserver groups
    ("GET", "dns/nameservers/corp", None, {"domains": ["bücher.example"], "groups": ["office"], "primary": False}),
    ("POST", "dns/nameservers", nameservers(), {"name": "new", "description": "", "domains": ["corp.example"]}),
    ("POST", "dns/nameservers", nameservers(primary=True), {"primary": True, "domains": []}),
    ("POST", "dns/nameservers", nameservers(primary=True, domains=None), {"primary": True, "domains": []}),
    ("POST", "dns/nameservers", nameservers(name="ü" * 40), {"name": "ü" * 40}),
    ("POST", "dns/nameservers", nameservers(domains=["Corp.Example."]), {"domains": ["corp.example"]}),
    ("POST", "dns/nameservers", nameservers(domains=["bücher.de", "lan"]), {"domains": ["bücher.de", "lan"]}),
    ("POST", "dns/nameservers", nameservers(domains=["a.de", "A.de."]), {"domains": ["a.de"]}),
    ("POST", "dns/nameservers", nameservers(search_domains_enabled=True), {"search_domains_enabled": True}),
    ("POST", "dns/nameservers", nameservers(enabled=None), {"enabled": False}),
    ("POST", "dns/nameservers", nameservers(groups=["office", "all", "office"]), {"groups": ["office", "all"]}),
    ("POST", "dns/nameservers", server(ip="FD00::53", port=65535), {"nameservers": [_server("fd00::53", 65535)]}),
    ("POST", "dns/nameservers", nameservers(nameservers=[_server(f"10.0.0.{n}") for n in (1, 2, 3)]), {"name": "new"}),
    ("PUT", "dns/nameservers/corp", nameservers(name="corp", enabled=False), {"id": "corp", "enabled": False}),
    ("PUT", "dns/nameservers/corp", nameservers(name="other", primary=True), {"name": "other", "domains": []}),
    ("DELETE", "dns/nameservers/corp", None, {}),
    # zones
    ("GET", "dns/zones/lab.example", None, {"domain": "lab.example", "records": [WWW]}),
    ("POST", "dns/zones", zone(), {"domain": "new.example", "enabled": True, "records": []}),
    ("POST", "dns/zones", zone(enabled=None), {"enabled": True}),
    ("POST", "dns/zones", zone(enabled=False), {"enabled": False}),
    ("POST", "dns/zones", zone(enable_search_domain=True), {"enable_search_domain": True}),
    ("POST", "dns/zones", zone(name="ü" * 255), {"name": "ü" * 255}),
    ("POST", "dns/zones", zone(name="lab.example"), {"name": "lab.example"}),
    ("POST", "dns/zones", zone(domain="Bücher.Example."), {"domain": "bücher.example"}),
    ("POST", "dns/zones", zone(domain="sub.lab.example"), {"domain": "sub.lab.example"}),
    ("POST", "dns/zones", zone(domain="notwhimbrel.test"), {"domain": "notwhimbrel.test"}),
    ("PUT", "dns/zones/lab.example", zone(domain="LAB.example."), {"name": "new", "records": [WWW]}),
    ("PUT", "dns/zones/lab.example", zone(domain="lab.example", enabled=False), {"enabled": False}),
    ("DELETE", "dns/zones/lab.example", None, {}),
    ("DELETE", "dns/zones/empty.example", None, {}),
    # records
    ("GET", f"{RECORDS}/www.lab.example", None, WWW),
    ("POST", RECORDS, record(), {"name": "wiki.lab.example", "type": "A", "content": "10.0.0.81", "ttl": 60}),
    ("POST", RECORDS, record(name="lab.example"), {"name": "lab.example"}),
    ("POST", RECORDS, record(name="Bücher.LAB.example."), {"name": "bücher.lab.example"}),
    ("POST", RECORDS, record(name="_sip._tcp.lab.example"), {"name": "_sip._tcp.lab.example"}),
    ("POST", RECORDS, record(name="www.lab.example"), {"name": "www.lab.example", "content": "10.0.0.81"}),
    ("POST", RECORDS, record(type="AAAA", content="FD00::0:1"), {"type": "AAAA", "content": "fd00::1"}),
    ("POST", RECORDS, record(type="AAAA", name="www.lab.example", content="fd00::1"), {"type": "AAAA"}),
    ("POST", RECORDS, record(type="CNAME", content="Bücher.example."), {"content": "bücher.example"}),
    ("POST", RECORDS, record(ttl=None), {"ttl": 0}),
    ("POST", RECORDS, record(ttl=2**31 - 1), {"ttl": 2**31 - 1}),
    ("PUT", f"{RECORDS}/www.lab.example", record(), {"name": "wiki.lab.example"}),
    (
        "PUT",
        f"{RECORDS}/www.lab.example",
        record(name="www.lab.example", type="CNAME", content="x.y"),
        {"type": "CNAME"},
    ),
    ("DELETE", f"{RECORDS}/www.lab.example", None, {}),
    # setup keys
    ("GET", "setup-keys/valid", None, {"state": "valid", "valid": True}),
    ("GET", "setup-keys/revoked", None, {"state": "revoked", "valid": False, "revoked": True}),
    ("GET", "setup-keys/expired", None, {"state": "expired", "valid": False, "revoked": False}),
    ("POST", "setup-keys", key(), {"name": "new", "state": "valid", "auto_groups": []}),
    ("POST", "setup-keys", key(name="valid"), {"name": "valid"}),
    ("POST", "setup-keys", key(type="one-off"), {"type": "one-off", "usage_limit": 1}),
    ("POST", "setup-keys", key(type="one-off", usage_limit=1), {"usage_limit": 1}),
    ("POST", "setup-keys", key(usage_limit=7), {"usage_limit": 7}),
    ("POST", "setup-keys", key(expires_in=0), {"expires": "0001-01-01T00:00:00Z"}),
    ("POST", "setup-keys", key(expires_in=86400), {"expires": "2023-11-15T22:13:20Z"}),
    ("POST", "setup-keys", key(auto_groups=["office"]), {"auto_groups": ["office"]}),
    ("POST", "setup-keys", key(auto_groups=None), {"auto_groups": []}),
    ("POST", "setup-keys", key(ephemeral=True, allow_extra_dns_labels=True), {"ephemeral": True}),
    ("PUT", "setup-keys/valid", {"revoked": False, "auto_groups": []}, {"auto_groups": [], "state": "valid"}),
    ("PUT", "setup-keys/valid", {"revoked": False, "auto_groups": ["unused"]}, {"auto_groups": ["unused"]}),
    ("PUT", "setup-keys/valid", {"revoked": True, "auto_groups": []}, {"revoked": True, "state": "revoked"}),
    ("PUT", "setup-keys/revoked", {"revoked": True, "auto_groups": []}, {"revoked": True, "state": "revoked"}),
    ("PUT", "setup-keys/expired", {"revoked": True, "auto_groups": []}, {"revoked": True, "state": "expired"}),
    ("DELETE", "setup-keys/valid", None, {}),
    ("DELETE", "setup-keys/revoked", None, {}),
    ("DELETE", "setup-keys/expired", None, {}),
]

REFUSED: list[tuple[str, str, Any, int]] = [
    # groups
    ("GET", "groups/missing", None, 404),
    ("POST", "groups", {}, 422),
    ("POST", "groups", {"name": ""}, 422),
    ("POST", "groups", {"name": "office"}, 409),
    ("POST", "groups", {"name": "new", "peers": ["missing"]}, 422),
    ("PUT", "groups/office", {"name": ""}, 422),
    ("PUT", "groups/office", {"name": "unused"}, 409),
    ("PUT", "groups/all", {"name": "Everybody"}, 422),
    ("PUT", "groups/missing", {"name": "new"}, 404),
    ("DELETE", "groups/missing", None, 404),
    ("DELETE", "groups/all", None, 422),
    ("DELETE", "groups/office", None, 412),
    ("DELETE", "groups/gateways", None, 412),
    # policies
    ("GET", "policies/missing", None, 404),
    ("POST", "policies", {**policy(), "name": ""}, 422),
    ("POST", "policies", {**policy(), "rules": []}, 422),
    ("POST", "policies", {"name": "web"}, 422),
    ("POST", "policies", policy(action="allow"), 422),
    ("POST", "policies", policy(protocol="sctp"), 422),
    ("POST", "policies", policy(protocol=None), 422),
    ("POST", "policies", policy(protocol="all"), 422),
    ("POST", "policies", policy(protocol="icmp"), 422),
    ("POST", "policies", policy(ports=["0"]), 422),
    ("POST", "policies", policy(ports=["65536"]), 422),
    ("POST", "policies", policy(ports=["http"]), 422),
    ("POST", "policies", policy(port_ranges=[{"start": 1, "end": 2}]), 422),
    ("POST", "policies", policy(ports=None, port_ranges=[{"start": 0, "end": 2}]), 422),
    ("POST", "policies", policy(ports=None, port_ranges=[{"start": 9, "end": 8}]), 422),
    ("POST", "policies", policy(sources=["missing"]), 422),
    ("POST", "policies", policy(sources=None), 422),
    ("POST", "policies", policy(destinations=None), 422),
    ("POST", "policies", policy(sourceResource={"id": "gw", "type": "peer"}), 422),
    ("POST", "policies", policy(destinationResource={"id": "gw", "type": "peer"}), 422),
    ("POST", "policies", policy(sources=None, sourceResource={"id": "missing", "type": "peer"}), 422),
    ("POST", "policies", policy(protocol="netbird-ssh", authorized_groups={"gateways": []}), 422),
    ("PUT", "policies/Default", policy(id="other"), 422),
    ("PUT", "policies/missing", policy(), 404),
    ("DELETE", "policies/missing", None, 404),
    # peers
    ("GET", "peers/missing", None, 404),
    ("PUT", "peers/missing", peer(), 404),
    ("PUT", "peers/gw", peer(name=""), 422),
    ("PUT", "peers/gw", peer(ip="10.0.0.1"), 422),
    ("PUT", "peers/gw", peer(ip="not an address"), 422),
    ("PUT", "peers/gw", peer(login_expiration_enabled=True), 412),
    ("PUT", "peers/gw", peer(approval_required=True), 412),
    ("PUT", "peers/gw", peer(approval_required="no"), 422),
    ("DELETE", "peers/missing", None, 404),
    ("DELETE", "peers/gw", None, 412),
    # nameserver groups
    ("GET", "dns/nameservers/missing", None, 404),
    ("POST", "dns/nameservers", nameservers(name=""), 422),
    ("POST", "dns/nameservers", nameservers(name="ü" * 41), 422),
    ("POST", "dns/nameservers", nameservers(name="corp"), 422),
    ("POST", "dns/nameservers", nameservers(domains=[]), 422),
    ("POST", "dns/nameservers", nameservers(domains=None), 422),
    ("POST", "dns/nameservers", nameservers(primary=True, domains=["corp.example"]), 422),
    ("POST", "dns/nameservers", nameservers(primary=True, search_domains_enabled=True), 422),
    ("POST", "dns/nameservers", nameservers(domains=["*.corp.example"]), 422),
    ("POST", "dns/nameservers", nameservers(domains=["corp..example"]), 422),
    ("POST", "dns/nameservers", nameservers(domains=["corp.example.."]), 422),
    ("POST", "dns/nameservers", nameservers(domains=["."]), 422),
    ("POST", "dns/nameservers", nameservers(domains=[""]), 422),
    ("POST", "dns/nameservers", nameservers(domains=["a" * 64]), 422),
    ("POST", "dns/nameservers", nameservers(domains=[f"d{n}" for n in range(1001)]), 422),
    ("POST", "dns/nameservers", nameservers(nameservers=[]), 422),
    ("POST", "dns/nameservers", nameservers(nameservers=None), 422),
    ("POST", "dns/nameservers", nameservers(nameservers=[_server(f"10.0.0.{n}") for n in range(1, 5)]), 422),
    ("POST", "dns/nameservers", server(ip=""), 422),
    ("POST", "dns/nameservers", server(ip="dns.example"), 422),
    ("POST", "dns/nameservers", server(ip="fe80::1%eth0"), 422),
    ("POST", "dns/nameservers", server(ip="0.0.0.0"), 422),
    ("POST", "dns/nameservers", server(ip="224.0.0.251"), 422),
    ("POST", "dns/nameservers", server(ip="::ffff:10.0.0.53"), 422),
    ("POST", "dns/nameservers", server(ns_type="tcp"), 422),
    ("POST", "dns/nameservers", server(ns_type=None), 422),
    ("POST", "dns/nameservers", server(port=0), 422),
    ("POST", "dns/nameservers", server(port=65536), 422),
    ("POST", "dns/nameservers", server(port=None), 422),
    ("POST", "dns/nameservers", nameservers(groups=[]), 422),
    ("POST", "dns/nameservers", nameservers(groups=None), 422),
    ("POST", "dns/nameservers", nameservers(groups=[""]), 422),
    ("POST", "dns/nameservers", nameservers(groups=["missing"]), 422),
    ("PUT", "dns/nameservers/missing", nameservers(), 404),
    ("PUT", "dns/nameservers/corp", nameservers(domains=["*.x"]), 422),
    ("DELETE", "dns/nameservers/missing", None, 404),
    # dns settings
    ("PUT", "dns/settings", {"disabled_management_groups": ["missing"]}, 422),
    ("PUT", "dns/settings", {"disabled_management_groups": [""]}, 422),
    # zones
    ("GET", "dns/zones/missing", None, 404),
    ("POST", "dns/zones", zone(name=""), 422),
    ("POST", "dns/zones", zone(name="x" * 256), 422),
    ("POST", "dns/zones", zone(domain=""), 422),
    ("POST", "dns/zones", zone(domain="*.new.example"), 422),
    ("POST", "dns/zones", zone(domain="new..example"), 422),
    ("POST", "dns/zones", zone(domain="lab.example"), 409),
    ("POST", "dns/zones", zone(domain="LAB.Example."), 409),
    ("POST", "dns/zones", zone(domain="whimbrel.test"), 422),
    ("POST", "dns/zones", zone(domain="sub.whimbrel.test"), 422),
    ("POST", "dns/zones", zone(domain="test"), 422),
    ("POST", "dns/zones", zone(distribution_groups=[]), 422),
    ("POST", "dns/zones", zone(distribution_groups=None), 422),
    ("POST", "dns/zones", zone(distribution_groups=["missing"]), 422),
    ("PUT", "dns/zones/lab.example", zone(domain="other.example"), 422),
    ("PUT", "dns/zones/lab.example", zone(domain=None), 422),
    ("PUT", "dns/zones/missing", zone(), 404),
    ("DELETE", "dns/zones/missing", None, 404),
    # records
    ("GET", "dns/zones/missing/records", None, 404),
    ("GET", f"{RECORDS}/missing", None, 404),
    ("GET", "dns/zones/empty.example/records/www.lab.example", None, 404),
    ("POST", "dns/zones/missing/records", record(), 404),
    ("POST", RECORDS, record(name=""), 422),
    ("POST", RECORDS, record(name="wiki"), 422),
    ("POST", RECORDS, record(name="wiki.example"), 422),
    ("POST", RECORDS, record(name="notlab.example"), 422),
    ("POST", RECORDS, record(name="*.lab.example"), 422),
    ("POST", RECORDS, record(type=None), 422),
    ("POST", RECORDS, record(type="a"), 422),
    ("POST", RECORDS, record(type="TXT"), 422),
    ("POST", RECORDS, record(content=""), 422),
    ("POST", RECORDS, record(content="fd00::1"), 422),
    ("POST", RECORDS, record(content="10.0.0.081"), 422),
    ("POST", RECORDS, record(type="AAAA", content="10.0.0.81"), 422),
    ("POST", RECORDS, record(type="AAAA", content="fe80::1%eth0"), 422),
    ("POST", RECORDS, record(type="AAAA", content="::ffff:10.0.0.81"), 422),
    ("POST", RECORDS, record(type="CNAME", content="not a name"), 422),
    ("POST", RECORDS, record(type="CNAME", content="WIKI.lab.example."), 422),
    ("POST", RECORDS, record(type="CNAME", content="x" * 256), 422),
    ("POST", RECORDS, record(ttl=-1), 422),
    ("POST", RECORDS, record(ttl=2**31), 422),
    ("POST", RECORDS, record(name="www.lab.example", content="10.0.0.80"), 409),
    ("POST", RECORDS, record(name="www.lab.example", type="CNAME", content="a.b"), 422),
    ("PUT", f"{RECORDS}/missing", record(), 404),
    ("PUT", "dns/zones/empty.example/records/www.lab.example", record(name="empty.example"), 404),
    ("PUT", f"{RECORDS}/www.lab.example", record(name="elsewhere.example"), 422),
    ("DELETE", f"{RECORDS}/missing", None, 404),
    ("DELETE", "dns/zones/empty.example/records/www.lab.example", None, 404),
    # setup keys
    ("GET", "setup-keys/missing", None, 404),
    ("POST", "setup-keys", key(name=""), 422),
    ("POST", "setup-keys", key(type="twice"), 422),
    ("POST", "setup-keys", key(type="one-off", usage_limit=2), 422),
    ("POST", "setup-keys", key(usage_limit=-1), 422),
    ("POST", "setup-keys", key(expires_in=-1), 422),
    ("POST", "setup-keys", key(expires_in=10**15), 422),
    ("POST", "setup-keys", key(auto_groups=["missing"]), 422),
    ("POST", "setup-keys", key(auto_groups=["all"]), 422),
    ("PUT", "setup-keys/valid", {"revoked": False, "auto_groups": ["missing"]}, 422),
    ("PUT", "setup-keys/valid", {"revoked": False}, 422),
    ("PUT", "setup-keys/revoked", {"revoked": False, "auto_groups": []}, 422),
    ("PUT", "setup-keys/missing", {"revoked": True, "auto_groups": []}, 404),
    ("DELETE", "setup-keys/missing", None, 404),
]


def _ids(cases: list[Any]) -> list[str]:
    return [f"{number}: {case[0]} {case[1]}" for number, case in enumerate(cases)]


@pytest.mark.parametrize(("method", "path", "body", "holds"), ACCEPTED, ids=_ids(ACCEPTED))
async def test_it_is_done_and_the_answer_is_what_a_get_shows(
    method: str, path: str, body: Any, holds: dict[str, Any]
) -> None:
    world = World()
    answer = await world.call(method, path, body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown | holds == shown
    if method == "DELETE":
        assert shown == {}
        assert problem(await world.call("GET", path))[0] == 404
    elif method != "GET":
        shown.pop("key", None)
        got = await world.get(path if method == "PUT" else f"{path}/{shown['id']}")
        got.pop("key", None)
        assert got == shown


@pytest.mark.parametrize(("method", "path", "body", "status"), REFUSED, ids=_ids(REFUSED))
async def test_it_is_refused_and_nothing_is_committed(method: str, path: str, body: Any, status: int) -> None:
    world = World()
    assert problem(await world.call(method, path, body))[0] == status
    assert world.commits == []


async def test_r10_a_refused_deletion_names_what_refers_to_the_object() -> None:
    world = World()
    status, message = problem(await world.call("DELETE", "groups/office"))
    assert status == 412
    assert "route lan" in message
    assert "setup key valid" in message
    assert "route lan" in problem(await world.call("DELETE", "peers/gw"))[1]


async def test_r10_a_group_is_kept_by_nameservers_and_dns_settings_that_name_it() -> None:
    world = World()
    await world.call("POST", "dns/nameservers", nameservers(groups=["unused"]))
    await world.call("PUT", "dns/settings", {"disabled_management_groups": ["unused"]})
    status, message = problem(await world.call("DELETE", "groups/unused"))
    assert (status, message) == (
        412,
        "group unused is used by nameserver group new, dns settings: remove it there first",
    )
    await world.call("DELETE", "dns/nameservers/new-1")
    await world.call("PUT", "dns/settings", {"disabled_management_groups": []})
    assert (await world.call("DELETE", "groups/unused")).status_code == 200


async def test_what_changes_nothing_in_a_nameserver_group_commits_nothing() -> None:
    world = World()
    shown = await world.get("dns/nameservers/corp")
    assert (await world.call("PUT", "dns/nameservers/corp", shown)).json() == shown
    assert world.commits == []


async def test_r10_a_group_is_kept_by_a_zone_that_is_distributed_to_it() -> None:
    world = World()
    await world.call("POST", "dns/zones", zone(distribution_groups=["unused"]))
    assert problem(await world.call("DELETE", "groups/unused"))[1].startswith("group unused is used by zone new:")


async def test_nothing_stands_beside_a_cname() -> None:
    world = World()
    await world.call("POST", RECORDS, record(type="CNAME", content="www.lab.example"))
    for beside in (record(), record(type="AAAA", content="fd00::1"), record(type="CNAME", content="other.example")):
        assert problem(await world.call("POST", RECORDS, beside))[0] == 422
    same = record(type="CNAME", content="www.lab.example", ttl=1)
    assert problem(await world.call("POST", RECORDS, same))[0] == 409
    assert (await world.call("PUT", f"{RECORDS}/new-1", same)).json()["ttl"] == 1


async def test_a_zone_is_deleted_with_its_records_and_says_so_of_each() -> None:
    world = World()
    await world.call("POST", RECORDS, record())
    await world.call("DELETE", "dns/zones/lab.example")
    assert (dict(world.state.zone_records), world.state.records_of("lab.example")) == ({}, ())
    events = await world.get("events")
    assert [(event["activity_code"], event["target_id"]) for event in events] == [
        ("dns.zone.delete", "lab.example"),
        ("dns.zone.record.delete", "www.lab.example"),
        ("dns.zone.record.delete", "new-1"),
        ("dns.zone.record.create", "new-1"),
    ]
    assert events[0]["meta"] == {"name": "lab.example", "domain": "lab.example"}
    assert events[1]["meta"] == {
        "name": "www.lab.example",
        "type": "A",
        "content": "10.0.0.80",
        "ttl": "300",
        "zone_id": "lab.example",
        "zone_name": "lab.example",
    }


async def test_a_zone_takes_as_many_records_as_fit_into_a_message() -> None:
    many = [builders.zone_record("lab.example", f"h{n}.lab.example") for n in range(1999)]
    world = World(*many)
    status, message = problem(await world.call("POST", RECORDS, record()))
    assert (status, message.partition(":")[0]) == (422, "zone lab.example has 2000 records, and cannot have more")
    await world.call("DELETE", f"{RECORDS}/h7.lab.example")
    assert (await world.call("POST", RECORDS, record())).status_code == 200


async def test_zones_and_records_that_stay_as_they_are_commit_nothing() -> None:
    world = World()
    for path in ("dns/zones/lab.example", f"{RECORDS}/www.lab.example"):
        shown = await world.get(path)
        assert (await world.call("PUT", path, shown)).json() == shown
    assert await world.get(RECORDS) == [WWW]
    assert world.commits == []


async def test_nameserver_groups_are_in_the_audit_trail() -> None:
    world = World()
    await world.call("POST", "dns/nameservers", nameservers())
    await world.call("PUT", "dns/nameservers/new-1", nameservers(name="newer"))
    await world.call("DELETE", "dns/nameservers/new-1")
    events = [(event["activity_code"], event["target_id"], event["meta"]) for event in await world.get("events")]
    assert events == [
        ("nameserver.group.delete", "new-1", {"name": "newer"}),
        ("nameserver.group.update", "new-1", {"name": "newer"}),
        ("nameserver.group.add", "new-1", {"name": "new"}),
    ]


async def test_dns_settings_say_which_groups_were_added_and_which_removed() -> None:
    world = World()
    assert await world.get("dns/settings") == {"disabled_management_groups": []}
    for groups in (["office", "gateways", "office"], ["gateways", "office"], ["unused", "office"], None):
        answer = await world.call("PUT", "dns/settings", {"disabled_management_groups": groups})
        assert sorted(answer.json()["disabled_management_groups"]) == sorted(set(groups or []))
    events = await world.get("events")
    assert {event["target_id"] for event in events} == {world.account}
    assert [(event["activity_code"].rpartition(".")[2], event["meta"]["group_id"]) for event in reversed(events)] == [
        ("add", "office"),
        ("add", "gateways"),
        ("add", "unused"),
        ("delete", "gateways"),
        ("delete", "unused"),
        ("delete", "office"),
    ]
    assert events[0]["meta"] == {"group": "office", "group_id": "office"}


async def test_a_setup_key_is_shown_once() -> None:
    world = World()
    created = await world.call("POST", "setup-keys", key())
    assert created.json()["key"] == "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"
    assert created.headers["Cache-Control"] == "no-store"
    for path in ("setup-keys", "setup-keys/new-1", "events"):
        text = (await world.call("GET", path)).text
        assert "2D3C-4B5A" not in text
    assert (await world.get("setup-keys/new-1"))["key"] == "0F1E2" + "*" * 31


async def test_rule_ids_survive_a_put_without_them() -> None:
    world = World()
    created = (await world.call("POST", "policies", policy())).json()
    updated = (await world.call("PUT", f"policies/{created['id']}", policy(ports=["443"]))).json()
    assert updated["rules"][0]["id"] == created["rules"][0]["id"]
    assert updated["rules"][0]["ports"] == ["443"]


async def test_groups_are_found_by_their_exact_name() -> None:
    world = World()
    assert [group["id"] for group in await world.get("groups?name=office")] == ["office"]
    assert problem(await world.call("GET", "groups?name=off")) == (404, "group off not found")
    assert len(await world.get("groups?name=")) == 4


async def test_peers_are_found_by_part_of_their_name_and_address() -> None:
    world = World()
    gw2 = await world.get("peers/gw2")
    assert [peer["id"] for peer in await world.get("peers?name=gw")] == ["gw", "gw2"]
    assert [peer["id"] for peer in await world.get(f"peers?ip={gw2['ip']}")] == ["gw2"]
    assert [peer["id"] for peer in await world.get(f"peers?ip={gw2['ipv6'][4:]}")] == ["gw2"]
    assert await world.get("peers?name=gw&ip=192.0.2") == []


async def test_peers_say_whom_a_policy_connects_them_with() -> None:
    world = World()
    assert [peer["accessible_peers_count"] for peer in await world.get("peers")] == [2, 2, 2]
    await world.call("DELETE", "policies/Default")
    one_peer = policy(sources=["office"], destinations=None, destinationResource={"id": "gw2", "type": "peer"})
    await world.call("POST", "policies", one_peer)
    assert {p["id"]: p["accessible_peers_count"] for p in await world.get("peers")} == {"gw": 0, "gw2": 1, "laptop": 1}
    assert [peer["id"] for peer in await world.get("peers/laptop/accessible-peers")] == ["gw2"]
    assert [peer["id"] for peer in await world.get("peers/gw2/accessible-peers")] == ["laptop"]
    assert await world.get("peers/gw/accessible-peers") == []
    assert await world.get("peers/missing/accessible-peers") == []


async def test_service_users_are_listed_apart() -> None:
    world = World()
    assert [user["id"] for user in await world.get("users?service_user=true")] == ["admin-service", "service"]
    assert len(await world.get("users?service_user=false")) == len(await world.get("users")) - 2
