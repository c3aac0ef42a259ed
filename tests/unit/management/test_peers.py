"""Peers: what may be changed of them, and what keeps them (reference control-plane §5.11, §8.3)."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.management.core import warnings
from services.management.core.commands.peers import PeerRequest, delete_peer, update_peer
from services.management.core.entities import Entity, Ref
from services.management.core.model.commit import Activity, Commit
from services.management.core.model.peer import Peer
from services.management.core.model.policy import ResourceRef
from services.management.errors import InUse, Invalid, Unknown, Unsuitable
from tests.builders import context, group, peer, policy, route, rule, state

A = peer("a", address_v4="100.64.7.9", address_v6="fd00:64::9")
B = peer("b", address_v4="100.64.8.8", address_v6="fd00:64::8")


def updated(old: Peer = A, *others: Entity, **fields: Any) -> tuple[Peer, Commit | None]:
    decision = update_peer(state(old, *others), old.id, PeerRequest(**{"name": old.name, **fields}), context())
    return decision.result, decision.commit


def codes(commit: Commit | None) -> list[str]:
    assert commit is not None
    return [activity.code for activity in commit.activities]


@pytest.mark.parametrize(
    "name, label",
    [
        ("Büro PC", "xn--bro-pc-3ya"),
        ("web.example.com", "web"),
        ("A", "a"),
        ("b", "b-7-9"),
        ("B.lan", "b-7-9"),
    ],
)
def test_renaming_makes_a_new_label_with_the_addresss_end_when_it_is_taken(name: str, label: str) -> None:
    new, commit = updated(A, B, name=name)
    assert (new.name, new.dns_label) == (name, label)
    assert codes(commit) == ["peer.rename"]


def test_a_peer_that_keeps_its_name_keeps_its_label() -> None:
    renamed = peer("a", dns_label="something-else")
    assert updated(renamed, ssh_enabled=True)[0].dns_label == "something-else"


@pytest.mark.parametrize("name", ["", ".lan", "---", "!?"])
def test_a_name_that_gives_no_label_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="name must have a letter or a digit"):
        updated(name=name)


@pytest.mark.parametrize(
    "old, fields, code",
    [
        ({}, {"ssh_enabled": True}, "peer.ssh.enable"),
        ({}, {"draining": True}, "peer.drain.enable"),
        ({"draining": True}, {"draining": False}, "peer.drain.disable"),
        ({"ssh_enabled": True}, {}, "peer.ssh.disable"),
        ({"user_id": "u"}, {"login_expiration_enabled": True}, "peer.login.expiration.enable"),
        ({"user_id": "u", "login_expiration_enabled": True}, {}, "peer.login.expiration.disable"),
        ({"user_id": "u"}, {"inactivity_expiration_enabled": True}, "peer.inactivity.expiration.enable"),
        ({"user_id": "u", "inactivity_expiration_enabled": True}, {}, "peer.inactivity.expiration.disable"),
        ({}, {"ip": "100.64.1.1"}, "peer.ip.update"),
        ({}, {"ipv6": "fd00:64::1"}, "peer.ip.update"),
    ],
)
def test_each_change_is_an_activity_of_its_own(old: dict[str, Any], fields: dict[str, Any], code: str) -> None:
    assert codes(updated(peer("a", **old), **fields)[1]) == [code]


def test_several_changes_are_one_commit() -> None:
    new, commit = updated(name="c", ssh_enabled=True, ip="100.64.1.1")
    assert codes(commit) == ["peer.ssh.enable", "peer.rename", "peer.ip.update"]
    assert commit is not None
    assert commit.upserts == (new,)
    assert commit.activities[2].meta == {
        "name": "c",
        "fqdn": "c.whimbrel.test",
        "ip": "100.64.1.1",
        "old_ip": "100.64.7.9",
        "created_at": "2023-11-14T22:13:20+00:00",
    }


@pytest.mark.parametrize("fields", [{}, {"ip": "100.64.7.9", "ipv6": "fd00:64::9"}, {"ipv6": "FD00:64:0::9"}])
def test_an_update_that_changes_nothing_commits_nothing(fields: dict[str, Any]) -> None:
    assert updated(**fields) == (A, None)


@pytest.mark.parametrize("flag", ["login_expiration_enabled", "inactivity_expiration_enabled"])
def test_only_the_login_of_a_peer_that_a_user_enrolled_expires(flag: str) -> None:
    with pytest.raises(Unsuitable, match="peer a was not enrolled by a user"):
        updated(A, **{flag: True})


def test_a_peer_cannot_be_put_back_to_unapproved() -> None:
    with pytest.raises(Unsuitable, match="approval_required: a peer is approved by enrolling"):
        updated(A, approval_required=True)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"ip": ""}, "ip: '' is not an address"),
        ({"ip": "100.64.0"}, "is not an address"),
        ({"ip": "100.65.0.1"}, "ip: 100.65.0.1 is not a host address of 100.64.0.0/16"),
        ({"ip": "100.64.0.0"}, "is not a host address"),
        ({"ip": "100.64.255.255"}, "is not a host address"),
        ({"ip": "fd00:64::1"}, "is not a host address"),
        ({"ip": "100.64.8.8"}, "ip: 100.64.8.8 is taken, choose another"),
        ({"ipv6": "fd00:65::1"}, "ipv6: fd00:65::1 is not a host address of fd00:64::/64"),
        ({"ipv6": "fd00:64::"}, "is not a host address"),
        ({"ipv6": "FD00:64:0::8"}, "ipv6: fd00:64::8 is taken"),
        ({"ipv6": "100.64.0.1"}, "is not a host address"),
        ({"ipv6": "fd00:64::1%lo"}, "is not an address"),
    ],
)
def test_an_address_must_be_in_range_and_free(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        updated(A, B, **fields)


def test_a_peer_without_ipv6_gets_no_address() -> None:
    with pytest.raises(Invalid, match="peer a has no IPv6"):
        updated(peer("a", address_v6=""), ipv6="fd00:64::1")
    assert updated(peer("a", address_v6=""), ipv6="")[1] is None


def test_a_new_address_is_stored_in_canonical_text() -> None:
    assert updated(ipv6="FD00:64:0:0::AB")[0].address_v6 == "fd00:64::ab"


def test_c2_a_put_that_does_not_know_of_draining_leaves_it() -> None:
    assert updated(peer("a", draining=True), name="b")[0].draining
    assert updated(peer("a", draining=True), draining=None)[1] is None


LAN = route("lan", "10.0.0.0/24", network_id="office", peer_groups=("gateways",), groups=("gateways",))
MATE = route("mate", "10.0.0.0/24", network_id="office", peer="c", groups=("gateways",))


@pytest.mark.parametrize(
    "others, served_by_it_alone",
    [
        ((route("lan", network_id="office", peer="a"),), "office"),
        ((LAN,), "office"),
        ((LAN, peer("b", "gateways")), ""),
        ((LAN, peer("b", "gateways", draining=True)), "office"),
        ((LAN, peer("c"), MATE), ""),
        ((LAN, peer("c"), replace(MATE, enabled=False)), "office"),
        ((LAN, peer("c"), replace(MATE, network_id="elsewhere")), "office"),
        ((route("lan", network_id="office", peer="a", enabled=False),), ""),
        ((LAN, route("db", "10.9.0.0/24", peer="a")), "db, office"),
        ((), ""),
    ],
)
def test_g6_whoever_drains_the_only_routing_peer_is_warned(others: tuple[Entity, ...], served_by_it_alone: str) -> None:
    drained = peer("a", "gateways", draining=True)
    there = state(group("gateways"), drained, *others)
    found = [warning.message for warning in warnings.of_peer(there, drained)]
    expected = f"nobody else serves {served_by_it_alone}: clients stay with a there until somebody does"
    assert found == ([expected] if served_by_it_alone else [])
    assert warnings.of_peer(there, replace(drained, draining=False)) == ()


def test_a_peer_is_deleted() -> None:
    commit = delete_peer(state(A), "a", context()).commit
    assert commit is not None
    assert commit.deletes == (Ref("peer", "a"),)
    meta: dict[str, str | int | bool | list[str]] = {
        "name": "a",
        "fqdn": "a.whimbrel.test",
        "ip": "100.64.7.9",
        "created_at": "2023-11-14T22:13:20+00:00",
    }
    assert commit.activities == (Activity(code="user.peer.delete", target_id="a", meta=meta),)


@pytest.mark.parametrize(
    "user, named",
    [
        (route("lan", peer="a"), "route lan"),
        (policy("p", rule("r", sources=(), source_resource=ResourceRef(id="a", type="peer"))), "policy p"),
        (policy("p", rule("r", destinations=(), destination_resource=ResourceRef(id="a", type="peer"))), "policy p"),
    ],
)
def test_r10_a_peer_in_use_stays_and_the_refusal_names_what_uses_it(user: Entity, named: str) -> None:
    with pytest.raises(InUse, match=f"peer a is used by {named}: remove it there first"):
        delete_peer(state(A, B, user), "a", context())
    assert delete_peer(state(A, B, user), "b", context()).commit is not None


def test_unknown_peers_are_not_found() -> None:
    with pytest.raises(Unknown, match="peer ghost not found"):
        update_peer(state(), "ghost", PeerRequest(), context())
    with pytest.raises(Unknown, match="peer ghost not found"):
        delete_peer(state(), "ghost", context())
