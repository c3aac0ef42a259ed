"""Groups: names, members, and what keeps them (reference control-plane §1.5, §8.3, §8.8)."""

import pytest

from services.management.core.commands.groups import GroupRequest, create_group, delete_group, update_group
from services.management.core.entities import Entity, Ref
from services.management.core.model.commit import Activity, Commit
from services.management.core.model.group import Group
from services.management.core.model.peer import Peer
from services.management.core.model.policy import ResourceRef
from services.management.errors import AlreadyThere, InUse, Invalid, Unknown, Unsuitable
from tests.builders import ALL, context, group, meta, peer, policy, route, rule, setup_key, state, user


def members(commit: Commit | None) -> dict[str, tuple[str, ...]]:
    """Peer → its groups, for the peers that the commit writes."""
    assert commit is not None
    return {entity.id: entity.groups for entity in commit.upserts if isinstance(entity, Peer)}


def codes(commit: Commit | None) -> list[tuple[str, str]]:
    assert commit is not None
    return [(activity.code, activity.target_id) for activity in commit.activities]


def test_a_group_is_created_with_its_members() -> None:
    there = state(peer("a", "x"), peer("b"), peer("c"), group("x"))
    decision = create_group(there, GroupRequest(name="office", peers=("a", "b", "a")), context())
    assert decision.result == Group(id="new-1", name="office")
    assert members(decision.commit) == {"a": ("new-1", "x"), "b": ("new-1",)}
    assert codes(decision.commit) == [("group.add", "new-1"), ("peer.group.add", "a"), ("peer.group.add", "b")]


@pytest.mark.parametrize("request_", [GroupRequest(name="office"), GroupRequest(name="office", peers=(), resources=())])
def test_absent_and_empty_lists_are_the_same(request_: GroupRequest) -> None:
    assert members(create_group(state(), request_, context()).commit) == {}


@pytest.mark.parametrize(
    "request_, words",
    [
        (GroupRequest(), "group name must not be empty"),
        (GroupRequest(name=" "), "group name must not be empty"),
        (GroupRequest(name="office", peers=("a", "ghost")), "peers: peer ghost not found"),
        (GroupRequest(name="office", peers=("",)), "peers: a peer id must not be empty"),
        (GroupRequest(name="office", resources=(ResourceRef(id="r", type="host"),)), "resources: resource r not found"),
    ],
)
def test_invalid_requests_are_refused_for_new_groups_and_old_ones(request_: GroupRequest, words: str) -> None:
    there = state(group("home"), peer("a"))
    with pytest.raises(Invalid, match=words):
        create_group(there, request_, context())
    with pytest.raises(Invalid, match=words):
        update_group(there, "home", request_, context())


def test_a_name_is_there_once_also_after_renaming() -> None:
    there = state(group("office"), group("home"))
    for taken in ("office", "All"):
        with pytest.raises(AlreadyThere, match=f"the name {taken} exists already"):
            create_group(there, GroupRequest(name=taken), context())
        with pytest.raises(AlreadyThere):
            update_group(there, "home", GroupRequest(name=taken), context())


def test_an_update_renames_and_exchanges_members() -> None:
    there = state(group("office"), group("x"), peer("a", "office", "x"), peer("b", "office"), peer("c"))
    decision = update_group(there, "office", GroupRequest(name="hq", peers=("c", "b")), context())
    assert decision.result == Group(id="office", name="hq")
    assert members(decision.commit) == {"c": ("office",), "a": ("x",)}
    assert codes(decision.commit) == [
        ("group.update", "office"),
        ("peer.group.add", "c"),
        ("peer.group.delete", "a"),
    ]
    assert decision.commit is not None
    assert decision.commit.activities[0].meta == {"name": "hq", "old_name": "office", "new_name": "hq"}


def test_an_update_without_members_empties_the_group() -> None:
    there = state(group("office"), peer("a", "office"))
    decision = update_group(there, "office", GroupRequest(name="office"), context())
    assert members(decision.commit) == {"a": ()}
    assert codes(decision.commit) == [("peer.group.delete", "a")]


def test_an_update_that_changes_nothing_commits_nothing() -> None:
    there = state(group("office"), peer("a", "office"))
    assert update_group(there, "office", GroupRequest(name="office", peers=("a",)), context()).commit is None


def test_the_activity_of_a_membership_carries_netbirds_meta() -> None:
    there = state(group("office"), peer("a", address_v4="100.64.0.9"))
    commit = update_group(there, "office", GroupRequest(name="office", peers=("a",)), context()).commit
    assert commit is not None
    assert commit.activities == (
        Activity(
            code="peer.group.add",
            target_id="a",
            meta={"group": "office", "group_id": "office", "peer_ip": "100.64.0.9", "peer_fqdn": "a.whimbrel.test"},
        ),
    )


def test_all_cannot_be_changed_or_deleted() -> None:
    with pytest.raises(Invalid, match="All holds every peer and cannot be changed"):
        update_group(state(), ALL, GroupRequest(name="everybody"), context())
    with pytest.raises(Invalid, match="All holds every peer and cannot be deleted"):
        delete_group(state(), ALL, context())


def test_unknown_groups_are_not_found() -> None:
    with pytest.raises(Unknown, match="group ghost not found"):
        update_group(state(), "ghost", GroupRequest(name="x"), context())
    with pytest.raises(Unknown, match="group ghost not found"):
        delete_group(state(), "ghost", context())


def test_a_group_with_members_may_go() -> None:
    there = state(group("office"), peer("a", "office"))
    commit = delete_group(there, "office", context()).commit
    assert commit is not None
    assert commit.deletes == (Ref("group", "office"),)
    assert commit.activities == (Activity(code="group.delete", target_id="office", meta={"name": "office"}),)
    there.apply(2, commit)
    assert there.peers["a"].groups == ()


@pytest.mark.parametrize(
    "user_, named",
    [
        (route("lan", groups=("office",)), "route lan"),
        (route("lan", peer_groups=("office",)), "route lan"),
        (route("lan", access_control_groups=("office",)), "route lan"),
        (policy("p", rule("r", sources=("office",))), "policy p"),
        (policy("p", rule("r"), rule("s", destinations=("office",))), "policy p"),
        (policy("p", rule("r", protocol="netbird-ssh", authorized_groups={"office": ("root",)})), "policy p"),
        (policy("p", rule("r", sources=("office",), enabled=False), enabled=False), "policy p"),
        (setup_key("ci", auto_groups=("office",)), "setup key ci"),
        (user("bob", "office"), "user bob"),
    ],
)
def test_r10_a_group_in_use_stays_and_the_refusal_names_what_uses_it(user_: Entity, named: str) -> None:
    there = state(group("office"), group("other"), user_)
    with pytest.raises(InUse, match=f"group office is used by {named}: remove it there first"):
        delete_group(there, "office", context())
    assert delete_group(there, "other", context()).commit is not None


def test_r10_the_refusal_names_three_and_counts_the_rest() -> None:
    there = state(group("office"), *(route(f"r{n}", f"10.{n}.0.0/16", groups=("office",)) for n in range(5)))
    with pytest.raises(InUse, match="route r0, route r1, route r2 and 2 more"):
        delete_group(there, "office", context())


def test_r4_joining_a_group_must_not_make_a_peer_serve_something_twice() -> None:
    there = state(
        group("routers"),
        peer("a"),
        peer("b"),
        route("one", "10.0.0.0/8", peer="a"),
        route("two", "10.0.0.0/8", peer_groups=("routers",)),
    )
    with pytest.raises(AlreadyThere, match="peer a already serves"):
        update_group(there, "routers", GroupRequest(name="routers", peers=("a", "b")), context())
    assert update_group(there, "routers", GroupRequest(name="routers", peers=("b",)), context()).commit is not None


def test_r11_only_linux_joins_a_group_that_carries_routes() -> None:
    desk = peer("desk", meta=meta("desk", go_os="darwin"))
    there = state(group("routers"), group("office"), desk, route("one", "10.0.0.0/8", peer_groups=("routers",)))
    with pytest.raises(Unsuitable, match="choose others than desk"):
        update_group(there, "routers", GroupRequest(name="routers", peers=("desk",)), context())
    assert update_group(there, "office", GroupRequest(name="office", peers=("desk",)), context()).commit is not None
