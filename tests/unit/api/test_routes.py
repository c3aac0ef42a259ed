"""Routes over REST (reference control-plane §2, §8.2 and §8.3)."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.management.core.feed.unit import LastWord
from shared.events.documents import ResolvedAddress, ResolvedName, Withdrawn
from tests.builders import meta, peer, route
from tests.unit.api.world import World, problem

BODY: dict[str, Any] = {
    "network_id": "awesomeNet",
    "description": "Post",
    "network": "192.168.0.0/16",
    "peer": "gw",
    "metric": 9999,
    "masquerade": True,
    "enabled": True,
    "groups": ["office"],
    "keep_route": False,
}
ABSENT = object()


def body(**fields: Any) -> dict[str, Any]:
    """BODY with some fields changed; ABSENT takes one out."""
    return {name: value for name, value in {**BODY, **fields}.items() if value is not ABSENT}


DOMAINS = {"network": ABSENT, "domains": ["example.com"]}
PEER_GROUPS = {"peer": ABSENT, "peer_groups": ["gateways"]}

TAKEN = [
    ("a network with a peer", {}),
    ("domains", {**DOMAINS, "keep_route": True}),
    ("a wildcard", {**DOMAINS, "domains": ["*.example.com"]}),
    ("names in another script", {**DOMAINS, "domains": ["münchen.example"]}),
    ("access control groups", {"access_control_groups": ["gateways"]}),
    ("peer groups", PEER_GROUPS),
    ("nobody to serve it", {"peer": ""}),
    ("domains null", {"domains": None}),
    ("peer groups null", {"peer_groups": None}),
    ("a network id of 40 characters that take more bytes", {"network_id": "ü" * 40}),
    ("the lowest metric", {"metric": 1}),
    ("the highest metric", {"metric": 9999}),
    ("an IPv6 network", {"network": "fd12::/16"}),
    ("the internet", {"network": "0.0.0.0/0", "skip_auto_apply": True}),
    ("the IPv6 internet", {"network": "::/0"}),
    ("a single host", {"network": "10.9.8.7/32"}),
    ("every flag absent", {"masquerade": ABSENT, "enabled": ABSENT, "keep_route": ABSENT}),
    ("every flag null", {"masquerade": None, "enabled": None, "keep_route": None, "description": None}),
    ("a probe by echo", {"probe": {"icmp": "192.168.1.10"}}),
    ("a probe by connection", {"probe": {"tcp": "192.168.1.10:8080", "interval_ms": 1000}}),
    ("an IPv6 probe by connection", {"network": "fd12::/16", "probe": {"tcp": "[fd12::1]:443", "icmp": None}}),
    ("a return address", {"masquerade": False, "return_address": "192.168.1.250"}),
    ("neither probe nor return address", {"probe": None, "return_address": None}),
    ("fields nobody knows", {"id": "mine", "network_type": "Domain", "colour": {"deep": [1, {}]}}),
]
REFUSED = [
    ("both network and domains", {"domains": ["example.com"]}, 422),
    ("both, the domains empty", {"domains": []}, 422),
    ("neither network nor domains", {"network": ABSENT}, 422),
    ("neither, the network null", {"network": None}, 422),
    ("both peer and peer groups", {"peer_groups": ["gateways"]}, 422),
    ("an empty peer beside peer groups", {"peer": "", "peer_groups": ["gateways"]}, 422),
    ("neither peer nor peer groups", {"peer": ABSENT}, 422),
    ("neither, the peer null", {"peer": None}, 422),
    ("an unknown peer", {"peer": "missing"}, 422),
    ("an unknown peer group", {"peer": ABSENT, "peer_groups": ["missing"]}, 422),
    ("an empty peer group", {"peer": ABSENT, "peer_groups": [""]}, 422),
    ("a network id of 41 characters", {"network_id": "x" * 41}, 422),
    ("an empty network id", {"network_id": ""}, 422),
    ("no network id", {"network_id": ABSENT}, 422),
    ("a prefix longer than an address", {"network": "192.168.0.0/34"}, 422),
    ("an address without a prefix", {"network": "192.168.0.0"}, 422),
    ("an empty network", {"network": ""}, 422),
    ("words for a network", {"network": "the office"}, 422),
    ("a domain that starts with a hyphen", {**DOMAINS, "domains": ["-example.com"]}, 422),
    ("no domain in the list", {**DOMAINS, "domains": []}, 422),
    ("33 domains", {**DOMAINS, "domains": [f"d{n}.example.com" for n in range(33)]}, 422),
    ("a domain with a dot at its end", {**DOMAINS, "domains": ["example.com."]}, 422),
    ("a wildcard inside a name", {**DOMAINS, "domains": ["www.*.example.com"]}, 422),
    ("a probe of nothing", {"probe": {}}, 422),
    ("a probe that is a text", {"probe": "icmp:192.168.1.10"}, 422),
    ("two probes", {"probe": {"icmp": "192.168.1.10", "tcp": "192.168.1.10:80"}}, 422),
    ("a probe outside the network", {"probe": {"icmp": "10.1.1.1"}}, 422),
    ("a probe of a name", {**DOMAINS, "probe": {"icmp": "example.com"}}, 422),
    ("a probe without a port", {"probe": {"tcp": "192.168.1.10"}}, 422),
    ("a probe too often", {"probe": {"icmp": "192.168.1.10", "interval_ms": 99}}, 422),
    ("a probe with an interval that is no number", {"probe": {"icmp": "192.168.1.10", "interval_ms": "200"}}, 422),
    ("a return address with masquerade", {"return_address": "192.168.1.250"}, 422),
    ("a return address outside the network", {"masquerade": False, "return_address": "10.1.1.1"}, 422),
    ("a return address that is a number", {"masquerade": False, "return_address": 7}, 422),
    ("a return address for names", {**DOMAINS, "masquerade": False, "return_address": "10.1.1.1"}, 422),
    ("metric 0", {"metric": 0}, 422),
    ("metric 10000", {"metric": 10000}, 422),
    ("no metric", {"metric": ABSENT}, 422),
    ("no distribution group", {"groups": []}, 422),
    ("distribution groups absent", {"groups": ABSENT}, 422),
    ("an empty distribution group", {"groups": [""]}, 422),
    ("an unknown distribution group", {"groups": ["missing"]}, 422),
    ("an unknown access control group", {"access_control_groups": ["missing"]}, 422),
    ("an empty access control group", {"access_control_groups": [""]}, 422),
    ("R4: a network that the peer serves already", {"network": "10.0.0.0/24"}, 409),
    ("R4: a network that a member of the group serves already", {"network": "10.0.0.0/24", **PEER_GROUPS}, 409),
    ("R4: names that a member of the group serves already", {**DOMAINS, "domains": ["bücher.example"]}, 409),
    ("R6: host bits do not make another network", {"network": "10.0.0.77/24"}, 409),
    ("R11: a routing peer that does not run Linux", {"peer": "mac"}, 412),
]


def world() -> World:
    return World(peer("mac", meta=meta("mac", go_os="darwin")))


@pytest.mark.parametrize(("what", "fields"), TAKEN, ids=[case[0] for case in TAKEN])
async def test_a_route_is_taken_when_it_has(what: str, fields: dict[str, Any]) -> None:
    there = world()
    created = await there.call("POST", "routes", body(**fields))
    assert created.status_code == 200, created.text
    shown = created.json()
    assert shown == {name: v for name, v in (await there.get("routes/new-1")).items() if name != "status"}
    assert [activity.code for commit in there.commits for activity in commit.activities] == ["route.add"]
    updated = await there.call("PUT", "routes/new-1", body(**{**fields, "description": "changed"}))
    assert updated.json() == shown | {"description": "changed"}


@pytest.mark.parametrize(("what", "fields", "status"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_a_route_is_refused_when_it_has(what: str, fields: dict[str, Any], status: int) -> None:
    there = world()
    stored = await there.get("routes/lan")
    assert problem(await there.call("POST", "routes", body(**fields)))[0] == status
    if status != 409:  # changing the very route that serves it is no conflict
        assert problem(await there.call("PUT", "routes/lan", body(**fields)))[0] == status
    assert there.commits == []
    assert await there.get("routes/lan") == stored


async def test_c2_probe_and_return_address_are_shown_as_asked_for_and_left_by_whoever_does_not_know_them() -> None:
    there = World()
    fields = {
        "network": "fd12::/64",
        "masquerade": False,
        "probe": {"tcp": "[fd12::1]:443", "interval_ms": 1000},
        "return_address": "fd12::250",
    }
    added = {name: fields[name] for name in ("probe", "return_address")}
    created = (await there.call("POST", "routes", body(**fields))).json()
    assert {name: created[name] for name in added} == added
    netbirds = body(network="fd12::/64", masquerade=False, description="as its clients write it")
    left = (await there.call("PUT", "routes/new-1", netbirds)).json()
    assert {name: left[name] for name in added} == added
    ended = (await there.call("PUT", "routes/new-1", netbirds | {"probe": None, "return_address": None})).json()
    assert not added.keys() & ended.keys()


async def test_a_network_route_is_answered_as_netbird_does() -> None:
    created = await World().call("POST", "routes", body(network="10.5.5.5/16"))
    assert created.json() == {
        "id": "new-1",
        "network_type": "IPv4",
        "network_id": "awesomeNet",
        "description": "Post",
        "network": "10.5.0.0/16",
        "domains": None,
        "peer": "gw",
        "metric": 9999,
        "masquerade": True,
        "enabled": True,
        "groups": ["office"],
        "keep_route": False,
        "skip_auto_apply": False,
        "warnings": [
            {
                "code": "open-route",
                "message": "no access control groups: every member of office may send everything through this route",
            },
        ],
    }


async def test_a_domain_route_is_answered_as_netbird_does() -> None:
    fields = {
        **DOMAINS,
        **PEER_GROUPS,
        "domains": ["Straße.example", "*.example.com"],
        "access_control_groups": ["unused"],
    }
    created = await World().call("POST", "routes", body(**fields, keep_route=True))
    assert created.json() == {
        "id": "new-1",
        "network_type": "Domain",
        "network_id": "awesomeNet",
        "description": "Post",
        "network": "192.0.2.0/32",
        "domains": ["straße.example", "*.example.com"],
        "peer": "",
        "peer_groups": ["gateways"],
        "metric": 9999,
        "masquerade": True,
        "enabled": True,
        "groups": ["office"],
        "access_control_groups": ["unused"],
        "keep_route": True,
        "skip_auto_apply": False,
        "warnings": [],
    }


async def test_r9_overlapping_routes_are_taken_with_a_warning() -> None:
    there = World(route("big", "10.0.0.0/8", peer="gw2", groups=("office",)))
    created = await there.call("POST", "routes", body(network="10.5.0.0/16"))
    assert {warning["code"] for warning in created.json()["warnings"]} == {"open-route", "overlap"}


async def test_g7_masquerade_off_with_several_routing_peers_is_taken_with_a_warning() -> None:
    created = await World().call("POST", "routes", body(**PEER_GROUPS, masquerade=False))
    assert {warning["code"] for warning in created.json()["warnings"]} == {"open-route", "masquerade-off-in-ha-set"}


async def test_a_route_that_no_host_uses_is_taken_with_a_warning() -> None:
    created = await World().call("POST", "routes", body(network="127.0.0.0/8"))
    assert [warning["code"] for warning in created.json()["warnings"]] == ["unroutable", "open-route"]


async def test_r6_a_route_that_became_an_exit_by_masking_is_answered_with_a_warning_by_post_and_put() -> None:
    there = World()
    for method, path in (("POST", "routes"), ("PUT", "routes/new-1")):
        answer = await there.call(method, path, body(network="1.2.3.4/0"))
        assert (answer.json()["network"], answer.json()["warnings"][0]["code"]) == ("0.0.0.0/0", "host-bits")


async def test_a_route_shows_who_serves_it_and_how_many_clients_are_on_each() -> None:
    there = World()
    facts, account = there.server.facts, there.account
    facts.words[account, "gw"] = LastWord(agent=True, holds=("wiki", "elsewhere"))
    facts.words[account, "gw2"] = LastWord(agent=False, draining=True, withdrawn=(Withdrawn("wiki", "eth1 is down"),))
    facts.users[account, "wiki", "gw"] = 3
    assert (await there.get("routes/wiki"))["status"] == {
        "routing_peers": [
            {
                "id": "gw",
                "name": "gw",
                "connected": True,
                "draining": False,
                "holds_return_address": True,
                "clients": 3,
            },
            {
                "id": "gw2",
                "name": "gw2",
                "connected": False,
                "draining": True,
                "withdrawn": "eth1 is down",
                "holds_return_address": False,
                "clients": 0,
            },
        ],
        "names": [],
    }
    there.change(replace(there.state.peers["gw"], draining=True))
    [on_lan] = (await there.get("routes/lan"))["status"]["routing_peers"]
    assert (on_lan["draining"], on_lan["holds_return_address"], on_lan["clients"]) == (True, False, 0)
    assert all("status" not in listed for listed in await there.get("routes"))


async def test_a_route_shows_what_its_names_stand_for_and_who_said_so() -> None:
    there = World()
    addresses = (ResolvedAddress("192.0.2.1", 5.0, 86_400.0), ResolvedAddress("2001:db8::1", 9.0, 0.0))
    former = ResolvedName("former.example", addresses)
    there.server.facts.names[there.account, "wiki"] = (
        ResolvedName("xn--bcher-kva.example", addresses, "tls://192.0.2.53#dns.example"),
        former,
    )
    assert (await there.get("routes/wiki"))["status"]["names"] == [
        {
            "name": "bücher.example",
            "source": "tls://192.0.2.53#dns.example",
            "addresses": [
                {"address": "192.0.2.1", "kept_until": "1970-01-02T00:00:00Z"},
                {"address": "2001:db8::1"},
            ],
        }
    ]


async def test_a_route_that_nobody_serves_has_nobody_to_show() -> None:
    there = World(route("nobodys", "10.4.0.0/24"))
    assert (await there.get("routes/nobodys"))["status"] == {"routing_peers": [], "names": []}


async def test_routes_are_listed_without_their_warnings() -> None:
    listed = await World().get("routes")
    assert [(route["id"], route["network"], route["domains"]) for route in listed] == [
        ("lan", "10.0.0.0/24", None),
        ("wiki", "192.0.2.0/32", ["bücher.example"]),
    ]
    assert all("warnings" not in route for route in listed)


async def test_a_route_is_got_with_its_peer_groups() -> None:
    assert (await World().get("routes/wiki"))["peer_groups"] == ["gateways"]


async def test_a_put_replaces_the_whole_route() -> None:
    there = World()
    updated = await there.call("PUT", "routes/lan", body(**DOMAINS, **PEER_GROUPS, masquerade=ABSENT))
    assert updated.status_code == 200
    shown = await there.get("routes/lan")
    assert (shown["network"], shown["domains"]) == ("192.0.2.0/32", ["example.com"])
    assert (shown["peer"], shown["peer_groups"], shown["masquerade"]) == ("", ["gateways"], False)
    back = await there.call("PUT", "routes/lan", body(network="10.0.0.0/24"))
    assert (back.json()["network"], back.json()["domains"], back.json()["network_type"]) == (
        "10.0.0.0/24",
        None,
        "IPv4",
    )


async def test_a_put_that_changes_nothing_commits_nothing() -> None:
    there = World()
    shown = await there.get("routes/lan")
    sent = {name: value for name, value in shown.items() if name != "domains"}
    status = {"status": shown["status"]}
    assert (await there.call("PUT", "routes/lan", sent)).json() | status == shown
    assert there.commits == []


async def test_a_route_is_deleted_once() -> None:
    there = World()
    deleted = await there.call("DELETE", "routes/lan")
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert problem(await there.call("DELETE", "routes/lan")) == (404, "route lan not found")
    assert problem(await there.call("GET", "routes/lan")) == (404, "route lan not found")


@pytest.mark.parametrize("content", [b"", b"{", b'{"metric": "no"}'])
async def test_an_unknown_route_is_reported_before_the_body_is_read(content: bytes) -> None:
    assert problem(await World().call("PUT", "routes/missing", content=content)) == (404, "route missing not found")
