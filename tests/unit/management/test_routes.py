"""Network routes: what is accepted, what is refused and in which order (reference control-plane §2, §8.1–8.3)."""

from typing import Any

import pytest

from services.management.core.commands.routes import RouteRequest, create_route, delete_route, update_route
from services.management.core.entities import Ref
from services.management.core.model.commit import Activity
from services.management.core.model.route import Route
from services.management.errors import AlreadyThere, Invalid, Refusal, Unknown, Unsuitable
from tests.builders import ALICE, ALL, NOW, context, group, meta, peer, route
from tests.unit.management.routing import (
    SERVED_BY_5,
    created,
    fixture,
    request,
    updated,
    without_dns_resolution,
)


def refused(refusal: type[Refusal], **fields: Any) -> str:
    with pytest.raises(refusal) as problem:
        created(fixture(*SERVED_BY_5), **fields)
    assert type(problem.value) is refusal
    assert "\n" not in problem.value.message
    return problem.value.message


def test_a_route_is_created_as_asked() -> None:
    asked = request(
        description="the office",
        masquerade=True,
        metric=100,
        groups=("rg1", "rg2"),
        access_control_groups=("rg1",),
        skip_auto_apply=True,
        keep_route=True,
    )
    decision = create_route(fixture(), asked, context())
    expected = Route(
        id="new-1",
        network_id="happy",
        description="the office",
        network="192.168.0.0/16",
        network_type="IPv4",
        peer="peer1",
        metric=100,
        masquerade=True,
        enabled=True,
        groups=("rg1", "rg2"),
        access_control_groups=("rg1",),
        keep_route=True,
        skip_auto_apply=True,
    )
    assert decision.result.route == expected
    assert decision.commit is not None
    assert decision.commit.upserts == (expected,)
    assert decision.commit.deletes == ()
    assert (decision.commit.account, decision.commit.at, decision.commit.actor) == ("acc", NOW, ALICE)


def test_r3_what_is_absent_is_false() -> None:
    bare = RouteRequest(network_id="x", network="10.0.0.0/8", peer="peer1", metric=1, groups=("rg1",))
    made = create_route(fixture(), bare, context()).result.route
    assert (made.enabled, made.masquerade, made.keep_route, made.skip_auto_apply) == (False,) * 4


def test_a_domain_route_has_names_and_no_network() -> None:
    made = created(fixture(), domains=("domain1", "domain2"), keep_route=True).route
    assert (made.network, made.domains, made.network_type) == ("", ("domain1", "domain2"), "Domain")
    assert made.keep_route


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(
            {"peer_groups": ("ha1", "ha2"), "groups": ("rg1", "rg2")}, id="a peer may be in two of the groups"
        ),
        pytest.param({"peer": "", "enabled": False}, id="an empty peer is a route without a router"),
        pytest.param({"peer_groups": ()}, id="so is an empty list of groups"),
        pytest.param({"metric": 1}, id="lowest metric"),
        pytest.param({"metric": 9999}, id="highest metric"),
        pytest.param({"network_id": "i"}, id="shortest network id"),
        pytest.param({"network_id": "é" * 39 + "🐦"}, id="40 runes, however many bytes"),
        pytest.param({"network": "0.0.0.0/0"}, id="exit"),
        pytest.param({"network": "::/0"}, id="exit for IPv6"),
        pytest.param({"network": "224.0.0.0/4"}, id="multicast"),
        pytest.param({"network": "100.64.0.0/10"}, id="the overlay's own range"),
        pytest.param({"network": "192.0.2.0/32"}, id="NetBird's placeholder is a prefix like any other"),
        pytest.param({"groups": (ALL,)}, id="distributed to All"),
        pytest.param({"peer_groups": (ALL,)}, id="carried by All"),
        pytest.param({"access_control_groups": ()}, id="no access control groups"),
        pytest.param({"domains": ("*.example.com",)}, id="wildcard"),
        pytest.param({"domains": tuple(f"d{n}.example.com" for n in range(32))}, id="32 domains"),
        pytest.param({"domains": ("example.org",), "peer": "peer5"}, id="other names by the same peer"),
        pytest.param({"network": "10.10.10.0/24"}, id="the same prefix by another peer"),
        pytest.param({"network": "10.10.10.0/25", "peer": "peer5"}, id="a nested prefix by the same peer"),
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    created(fixture(*SERVED_BY_5), **fields)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"network": "10.0.0.0/8", "domains": ("a.com",)}, "network or domains, not both"),
        ({"network": "", "domains": ()}, "network or domains, not both"),
        ({"network": None}, "give either network or domains"),
        ({"peer": None}, "give either peer or peer_groups"),
        ({"peer": "peer1", "peer_groups": ("rg1",)}, "peer or peer_groups, not both"),
        ({"peer": "", "peer_groups": ("rg1",)}, "peer or peer_groups, not both"),
        ({"network_id": ""}, "network_id must have 1 to 40 characters"),
        ({"network_id": "x" * 41}, "network_id must have 1 to 40 characters, it has 41"),
        ({"network": ""}, "not a valid prefix"),
        ({"network": "192.168.0.0"}, "add the prefix length"),
        ({"network": "192.168.0.0/34"}, "not a valid prefix"),
        ({"domains": ()}, "1 to 32 entries, it has 0"),
        ({"domains": ("-example.com",)}, "not a valid domain"),
        ({"domains": ("a.com", "b.com.")}, "not a valid domain"),
        ({"metric": 0}, "metric must be between 1 and 9999, it is 0"),
        ({"metric": 10_000}, "metric must be between 1 and 9999"),
        ({"metric": 99_999}, "metric must be between 1 and 9999"),
        ({"metric": -1}, "metric must be between 1 and 9999"),
        ({"groups": ()}, "at least one distribution group"),
        ({"groups": None}, "at least one distribution group"),
        ({"groups": ("",)}, "groups: a group id must not be empty"),
        ({"groups": ("rg1", "nobody")}, "groups: group nobody not found"),
        ({"access_control_groups": ("",)}, "access_control_groups: a group id must not be empty"),
        ({"access_control_groups": ("nobody",)}, "access_control_groups: group nobody not found"),
        ({"peer_groups": ("",)}, "peer_groups: a group id must not be empty"),
        ({"peer_groups": ("nobody",)}, "peer_groups: group nobody not found"),
        ({"peer": "notExistingPeer"}, "peer: peer notExistingPeer not found"),
    ],
)
def test_invalid_requests_are_refused_with_the_remedy(fields: dict[str, Any], words: str) -> None:
    assert words in refused(Invalid, **fields)


@pytest.mark.parametrize("count", [0, 33])
def test_r8_a_route_has_1_to_32_domains(count: int) -> None:
    assert "1 to 32" in refused(Invalid, domains=tuple(f"d{n}.example.com" for n in range(count)))


def test_r8_each_domain_has_at_most_253_bytes() -> None:
    label = "a" * 63
    created(fixture(), domains=(".".join([label, label, label, "a" * 61]),))
    assert "253" in refused(Invalid, domains=(".".join([label, label, label, "a" * 62]),))


def test_names_become_idna_and_each_is_there_once() -> None:
    made = created(fixture(), domains=("Bücher.example", "a.example", "xn--bcher-kva.example")).route
    assert made.domains == ("xn--bcher-kva.example", "a.example")


@pytest.mark.parametrize(
    "text, masked, family",
    [
        ("192.168.1.7/24", "192.168.1.0/24", "IPv4"),
        ("2001:DB8::7/64", "2001:db8::/64", "IPv6"),
    ],
)
def test_r6_host_bits_are_masked(text: str, masked: str, family: str) -> None:
    made = created(fixture(), network=text).route
    assert (made.network, made.network_type) == (masked, family)


def test_r7_wildcards_need_dns_resolution_on_routing_peers() -> None:
    state = fixture(owner=without_dns_resolution())
    created(state, domains=("example.com",))
    with pytest.raises(Invalid, match=r"\*\.example\.com needs the account's routing peer dns resolution"):
        created(state, domains=("a.com", "*.example.com"))


@pytest.mark.parametrize(
    "broken",
    [
        # each has everything wrong that comes later; the first one wins
        ({"network": "bad", "domains": ("-",), "peer": None}, "network or domains, not both"),
        ({"network": None, "peer": None, "network_id": ""}, "give either network or domains"),
        ({"peer": None, "network_id": ""}, "give either peer or peer_groups"),
        ({"peer": "", "peer_groups": (), "network_id": ""}, "peer or peer_groups, not both"),
        ({"network_id": "", "network": "bad", "metric": 0}, "network_id"),
        ({"network": "bad", "metric": 0, "groups": ()}, "prefix"),
        ({"metric": 0, "peer_groups": ("nobody",), "groups": ()}, "metric"),
        ({"peer_groups": ("nobody",), "access_control_groups": ("nobody",), "groups": ()}, "peer_groups"),
        ({"access_control_groups": ("nobody",), "groups": (), "peer": "nobody"}, "access_control_groups"),
        ({"groups": (), "peer": "nobody"}, "groups"),
    ],
)
def test_the_first_failure_wins_in_netbirds_order(broken: tuple[dict[str, Any], str]) -> None:
    fields, words = broken
    assert words in refused(Invalid, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"network": "10.10.10.0/24", "peer": "peer5"}, id="peer in a group that serves the prefix"),
        pytest.param({"network": "10.10.10.99/24", "peer": "peer5"}, id="the same prefix once masked"),
        pytest.param({"domains": ("example.com",), "peer": "peer5"}, id="peer in a group that serves the names"),
        pytest.param({"network": "10.10.10.0/24", "peer_groups": ("rg1", "rg3")}, id="group that serves the prefix"),
        pytest.param({"domains": ("example.com",), "peer_groups": ("rg1", "rg3")}, id="group that serves the names"),
        pytest.param({"network": "10.10.10.0/24", "peer": "peer5", "enabled": False}, id="enabled plays no role"),
        pytest.param({"network": "10.10.10.0/24", "peer": "peer5", "network_id": "other"}, id="nor the network id"),
        pytest.param({"network": "10.10.10.0/24", "peer": "peer5", "groups": ("rg2",)}, id="nor the distribution"),
        pytest.param({"network": "172.16.0.0/12", "peer": "peer1"}, id="single peer and single peer"),
        pytest.param({"network": "172.16.0.0/12", "peer_groups": ("rg2", "ha2")}, id="group member and single peer"),
        pytest.param({"network": "172.16.0.0/12", "peer_groups": (ALL,)}, id="All and single peer"),
        pytest.param({"network": "172.17.0.0/16", "peer_groups": ("empty",)}, id="the same group, though it is empty"),
        pytest.param({"domains": ("b.com", "a.com"), "peer": "peer2"}, id="the same names in another order"),
        pytest.param({"domains": ("A.com", "b.com", "a.com"), "peer": "peer2"}, id="the same names, one of them twice"),
    ],
)
def test_r4_nothing_is_served_twice_by_the_same_peer(fields: dict[str, Any]) -> None:
    state = fixture(
        *SERVED_BY_5,
        group("empty"),
        route("single", "172.16.0.0/12", peer="peer1"),
        route("by-nobody-yet", "172.17.0.0/16", peer_groups=("empty",)),
        route("names", domains=("a.com", "b.com"), peer="peer2", enabled=False),
    )
    with pytest.raises(AlreadyThere, match="already serves"):
        created(state, **fields)


def test_r4_the_refusal_names_who_and_which_route() -> None:
    message = refused(AlreadyThere, network="10.10.10.0/24", peer="peer5")
    assert message == (
        "peer peer5 already serves 10.10.10.0/24 by route init-network: choose another or change that route"
    )


@pytest.mark.parametrize("fields", [{"peer": "desk"}, {"peer_groups": ("rg1", "office")}])
def test_r11_routing_peers_run_linux(fields: dict[str, Any]) -> None:
    state = fixture(group("office"), peer("desk", "office", meta=meta("desk", go_os="windows")))
    with pytest.raises(Unsuitable, match="routing peers must run linux: choose others than desk"):
        created(state, **fields)
    created(state, groups=("office",))  # a client may run what it likes


def test_an_update_replaces_the_whole_route() -> None:
    state = fixture(route("r", description="old", masquerade=True, peer="peer1"))
    made = updated(state, "r", network="192.168.0.0/24", peer="peer2", metric=1000, groups=("rg2",))
    assert made == Route(
        id="r",
        network_id="happy",
        network="192.168.0.0/24",
        peer="peer2",
        metric=1000,
        enabled=True,
        groups=("rg2",),
    )


@pytest.mark.parametrize(
    "old, fields",
    [
        pytest.param({"peer": "peer1"}, {"domains": ("example.com", "example2.com")}, id="network to domains"),
        pytest.param({"domains": ("example.com",)}, {"network": "192.168.0.0/24"}, id="domains to network"),
        pytest.param({}, {"peer_groups": ("ha1", "ha2")}, id="no router to groups"),
        pytest.param({"peer": "peer1"}, {"network": "10.0.0.0/24", "peer": "peer2"}, id="another peer"),
        pytest.param(
            {"peer": "peer1"}, {"network": "10.0.0.0/24", "peer": "peer1"}, id="it does not collide with itself"
        ),
    ],
)
def test_an_update_may_switch(old: dict[str, Any], fields: dict[str, Any]) -> None:
    state = fixture(*SERVED_BY_5, route("r", **old))
    assert updated(state, "r", **fields).id == "r"


@pytest.mark.parametrize(
    "fields",
    [{"network": "10.10.10.0/24", "peer": "peer5"}, {"network": "10.10.10.0/24", "peer_groups": ("rg4",)}],
)
def test_r4_an_update_may_not_take_over_what_another_route_serves(fields: dict[str, Any]) -> None:
    state = fixture(
        route("mine", "10.10.10.0/24", peer_groups=("rg1",)), route("other", "10.10.10.0/24", peer_groups=("rg4",))
    )
    with pytest.raises(AlreadyThere):
        updated(state, "mine", **fields)


ENROLLED = {
    "who serves the same by another route": peer("new", "ha1", "rg4"),
    "who runs something else": peer("new", "ha1", meta=meta("new", go_os="windows")),
}


@pytest.mark.parametrize("newcomer", ENROLLED)
def test_a_route_can_be_switched_off_whoever_enrolled_into_its_groups(newcomer: str) -> None:
    mine = route("mine", "10.10.10.0/24", peer_groups=("ha1",))
    state = fixture(*SERVED_BY_5, mine, ENROLLED[newcomer])
    same = {"network": "10.10.10.0/24", "peer_groups": ("ha1",)}
    assert updated(state, "mine", **same, enabled=False).enabled is False
    with pytest.raises((AlreadyThere, Unsuitable)):
        updated(state, "mine", **same | {"peer_groups": ("ha1", "rg2")})


def test_an_update_is_checked_like_a_new_route() -> None:
    with pytest.raises(Invalid, match="metric"):
        updated(fixture(route("r")), "r", metric=99_999)


def test_updating_or_deleting_an_unknown_route_is_refused_whatever_the_body() -> None:
    with pytest.raises(Unknown, match="route r not found"):
        update_route(fixture(), "r", RouteRequest(), context())
    with pytest.raises(Unknown, match="route r not found"):
        delete_route(fixture(), "r", context())


def test_an_update_that_changes_nothing_commits_nothing() -> None:
    state = fixture(route("happy", "192.168.0.0/16", peer="peer1", metric=9999, groups=("rg1",)))
    decision = update_route(state, "happy", request(), context())
    assert decision.commit is None
    assert decision.result.route == state.routes["happy"]


def test_c6_the_activities_say_what_netbird_says() -> None:
    state = fixture(route("r", peer_groups=("ha1",)))
    deletion = delete_route(state, "r", context()).commit
    assert deletion is not None
    assert deletion.activities == (
        Activity(
            code="route.delete",
            target_id="r",
            meta={"name": "r", "network_range": "10.0.0.0/24", "domains": "", "peer_id": "", "peer_groups": ["ha1"]},
        ),
    )
    assert deletion.deletes == (Ref("route", "r"),)

    update = update_route(state, "r", request(network_id="s", peer="peer1"), context()).commit
    assert update is not None
    assert [(a.code, a.target_id, a.meta["name"], a.meta["peer_id"]) for a in update.activities] == [
        ("route.update", "r", "s", "peer1")
    ]

    names = create_route(state, request(domains=("bücher.example", "a.com")), context()).commit
    assert names is not None
    assert names.activities[0].code == "route.add"
    assert names.activities[0].meta["domains"] == "bücher.example, a.com"
    assert names.activities[0].meta["network_range"] == "192.0.2.0/32"
