"""Setup keys: creating, revoking, deleting (reference control-plane §1.8, §8.3, §8.8).

Enrolling with one: test_enrol.py.
"""

from typing import Any

import msgspec
import pytest

from services.management.core.commands.setupkeys import (
    SetupKeyRequest,
    SetupKeyUpdate,
    create_setup_key,
    delete_setup_key,
    update_setup_key,
)
from services.management.core.entities import Ref
from services.management.core.model.commit import Activity
from services.management.core.model.setupkey import KeyState, SetupKey
from services.management.errors import InUse, Invalid, Unknown
from tests.builders import ALL, NOW, context, group, peer, setup_key, state

KEY = "A1B2C3D4-0000-4000-8000-00000000BEEF"
DAY = 86_400


def request(**fields: Any) -> SetupKeyRequest:
    return SetupKeyRequest(**{"name": "ci", "type": "reusable", "expires_in": DAY, **fields})


def created(**fields: Any) -> SetupKey:
    return create_setup_key(state(group("office")), request(**fields), KEY, context()).result


def test_a_key_is_stored_as_hash_and_hint_and_never_in_clear() -> None:
    decision = create_setup_key(state(group("office")), request(auto_groups=("office",)), KEY, context())
    assert decision.result == SetupKey(
        id="new-1",
        name="ci",
        key_hash="c414b466b3fae314ecc8f9cfa226de34f036fc2f8a095af9c8f4deb560aad446",
        hint="A1B2C",
        type="reusable",
        created_at=NOW,
        updated_at=NOW,
        expires_at=NOW + DAY,
        auto_groups=("office",),
    )
    assert decision.result.masked == "A1B2C" + "*" * 31
    assert decision.commit is not None
    assert KEY.encode() not in msgspec.msgpack.encode(decision.commit)
    assert [(a.code, a.target_id, a.meta) for a in decision.commit.activities] == [
        ("setupkey.add", "new-1", {"name": "ci", "type": "reusable", "key": "A1B2C" + "*" * 31}),
        ("setupkey.group.add", "new-1", {"group": "office", "group_id": "office", "setupkey": "ci"}),
    ]


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"expires_in": 0}, {"expires_at": 0.0}),
        ({"usage_limit": 0}, {"usage_limit": 0}),
        ({"usage_limit": 7}, {"usage_limit": 7}),
        ({"type": "one-off"}, {"type": "one-off", "usage_limit": 1}),
        ({"type": "one-off", "usage_limit": 1}, {"usage_limit": 1}),
        ({"auto_groups": None}, {"auto_groups": ()}),
        ({"auto_groups": ("office", "office")}, {"auto_groups": ("office",)}),
        ({"ephemeral": True}, {"ephemeral": True}),
        ({"ephemeral": None}, {"ephemeral": False}),
        ({"allow_extra_dns_labels": True}, {"allow_extra_dns_labels": True}),
        ({"expires_in": 1}, {"expires_at": NOW + 1}),
    ],
)
def test_accepted(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    made = created(**fields)
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"name": ""}, "setup key name must not be empty"),
        ({"type": ""}, "type must be reusable or one-off"),
        ({"type": "One-Off"}, "type must be reusable or one-off"),
        ({"expires_in": -1}, "expires_in must be between 0 and"),
        ({"expires_in": 2**63}, "expires_in must be between 0 and"),
        ({"type": "one-off", "usage_limit": 2}, "one-off key must be 1, it is 2"),
        ({"usage_limit": -1}, "usage_limit must not be negative"),
        ({"auto_groups": ("ghost",)}, "auto_groups: group ghost not found"),
        ({"auto_groups": ("",)}, "auto_groups: a group id must not be empty"),
        ({"auto_groups": ("office", ALL)}, "every peer is in the group All, leave it out"),
    ],
)
def test_invalid_requests_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        created(**fields)


def test_names_may_repeat() -> None:
    assert create_setup_key(state(setup_key("ci")), request(), KEY, context()).result.name == "ci"


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({}, "valid"),
        ({"expires_at": NOW + 0.1}, "valid"),
        ({"expires_at": NOW}, "expired"),
        ({"revoked": True}, "revoked"),
        ({"usage_limit": 2, "used_times": 1}, "valid"),
        ({"usage_limit": 2, "used_times": 2}, "overused"),
        ({"used_times": 1_000}, "valid"),
        ({"expires_at": NOW, "revoked": True, "usage_limit": 1, "used_times": 1}, "expired"),
        ({"revoked": True, "usage_limit": 1, "used_times": 1}, "revoked"),
    ],
)
def test_a_keys_state_is_expired_before_revoked_before_overused(fields: dict[str, Any], expected: KeyState) -> None:
    assert setup_key("ci", **fields).state(NOW) == expected


@pytest.mark.parametrize("old", [{}, {"expires_at": NOW - 1}])
def test_a_key_is_revoked(old: dict[str, Any]) -> None:
    there = state(group("office"), setup_key("ci", auto_groups=("office",), updated_at=1.0, **old))
    decision = update_setup_key(there, "ci", SetupKeyUpdate(revoked=True, auto_groups=("office",)), context())
    assert (decision.result.revoked, decision.result.updated_at) == (True, NOW)
    assert decision.commit is not None
    assert [activity.code for activity in decision.commit.activities] == ["setupkey.revoke"]


def test_a_key_gets_other_groups() -> None:
    there = state(*map(group, "abc"), setup_key("ci", auto_groups=("a", "b")))
    decision = update_setup_key(there, "ci", SetupKeyUpdate(auto_groups=("c", "b")), context())
    assert decision.result.auto_groups == ("c", "b")
    assert decision.commit is not None
    assert [(a.code, a.meta["group"]) for a in decision.commit.activities] == [
        ("setupkey.group.delete", "a"),
        ("setupkey.group.add", "c"),
    ]


@pytest.mark.parametrize(
    "old, update",
    [
        ({}, SetupKeyUpdate(auto_groups=())),
        ({"revoked": True}, SetupKeyUpdate(revoked=True, auto_groups=())),
        ({"auto_groups": ("a", "b")}, SetupKeyUpdate(auto_groups=("b", "a"))),
    ],
)
def test_an_update_that_changes_nothing_commits_nothing(old: dict[str, Any], update: SetupKeyUpdate) -> None:
    there = state(*map(group, "ab"), setup_key("ci", **old))
    decision = update_setup_key(there, "ci", update, context())
    assert decision.commit is None
    assert decision.result == there.setup_keys["ci"]


@pytest.mark.parametrize(
    "update, words",
    [
        (SetupKeyUpdate(revoked=True), r"auto_groups must be given, \[\] for none"),
        (SetupKeyUpdate(revoked=False, auto_groups=()), "setup key ci is revoked for good: create a new one"),
        (SetupKeyUpdate(revoked=True, auto_groups=("ghost",)), "group ghost not found"),
        (SetupKeyUpdate(revoked=True, auto_groups=(ALL,)), "every peer is in the group All"),
    ],
)
def test_invalid_updates_are_refused(update: SetupKeyUpdate, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        update_setup_key(state(setup_key("ci", revoked=True)), "ci", update, context())


def test_unknown_keys_are_not_found() -> None:
    with pytest.raises(Unknown, match="setup key ghost not found"):
        update_setup_key(state(), "ghost", SetupKeyUpdate(), context())
    with pytest.raises(Unknown, match="setup key ghost not found"):
        delete_setup_key(state(), "ghost", context())


@pytest.mark.parametrize("fields", [{}, {"revoked": True}, {"expires_at": 1.0}, {"usage_limit": 1, "used_times": 1}])
def test_a_key_of_any_state_may_be_deleted(fields: dict[str, Any]) -> None:
    commit = delete_setup_key(state(setup_key("ci", **fields)), "ci", context()).commit
    assert commit is not None
    assert commit.deletes == (Ref("setup-key", "ci"),)
    meta: dict[str, str | int | bool | list[str]] = {"name": "ci", "type": "reusable", "key": "ci" + "*" * 31}
    assert commit.activities == (Activity(code="setupkey.delete", target_id="ci", meta=meta),)


def test_r10_a_key_stays_while_peers_enrolled_with_it_exist() -> None:
    there = state(setup_key("ci"), peer("a", setup_key="ci"), peer("b"))
    with pytest.raises(InUse, match="setup key ci enrolled peer a: revoke it instead, or delete them first"):
        delete_setup_key(there, "ci", context())
