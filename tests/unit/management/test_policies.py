"""Policies and their rules (reference control-plane §1.6, §8.3, §8.8)."""

from typing import Any

import msgspec
import pytest

from services.management.core.commands.policies import PolicyRequest, create_policy, delete_policy, update_policy
from services.management.core.commands.policyrules import PolicyRuleRequest, PortRangeRequest
from services.management.core.entities import Ref
from services.management.core.model.commit import Activity
from services.management.core.model.policy import Policy, PolicyRule, ResourceRef
from services.management.core.state import AccountState
from services.management.errors import Invalid, Unknown
from shared.events.documents import PortRange
from tests.builders import ALL, context, group, peer, policy, rule, state

EVERYTHING: dict[str, Any] = {
    "name": "r",
    "enabled": True,
    "action": "accept",
    "protocol": "all",
    "sources": ("a",),
    "destinations": ("b",),
}
PEER_X = ResourceRef(id="x", type="peer")


def there(*policies: Policy) -> AccountState:
    return state(group("a"), group("b"), peer("x"), *policies)


def asked(*rules: dict[str, Any], **fields: Any) -> PolicyRequest:
    requests = tuple(PolicyRuleRequest(**{**EVERYTHING, **changes}) for changes in rules or ({},))
    return PolicyRequest(**{"name": "p", "enabled": True, "rules": requests, **fields})


def created(**changes: Any) -> PolicyRule:
    return create_policy(there(), asked(changes), context()).result.rules[0]


def test_a_policy_is_created_with_new_ids_whatever_ids_are_asked_for() -> None:
    request = asked({"id": "mine"}, {"name": "s", "action": "drop"}, description="d", enabled=False)
    decision = create_policy(there(), request, context())
    made = decision.result
    assert (made.id, made.name, made.description, made.enabled) == ("new-1", "p", "d", False)
    assert [(r.id, r.name, r.action) for r in made.rules] == [("new-2", "r", "accept"), ("new-3", "s", "drop")]
    assert decision.commit is not None
    assert decision.commit.upserts == (made,)
    assert decision.commit.activities == (Activity(code="policy.add", target_id="new-1", meta={"name": "p"}),)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"protocol": "tcp", "ports": ("80", "443")}, {"ports": ("80", "443"), "port_ranges": ()}),
        ({"protocol": "udp", "ports": ("1", "65535", "1", "01")}, {"ports": ("1", "65535")}),
        ({"protocol": "tcp", "ports": (), "port_ranges": (PortRangeRequest(start=1, end=65535),)}, {"ports": ()}),
        (
            {"protocol": "tcp", "port_ranges": (PortRangeRequest(start=8080, end=8080),)},
            {"port_ranges": (PortRange(8080, 8080),)},
        ),
        ({"protocol": "all", "ports": (), "port_ranges": ()}, {"ports": ()}),
        ({"protocol": "icmp"}, {"protocol": "icmp"}),
        ({"action": "drop"}, {"action": "drop"}),
        ({"bidirectional": True}, {"bidirectional": True}),
        ({"sources": ()}, {"sources": ()}),
        ({"sources": ("b", "a", "b")}, {"sources": ("a", "b")}),
        ({"sources": (ALL,), "destinations": (ALL,)}, {"sources": (ALL,)}),
        ({"sources": None, "source_resource": PEER_X}, {"sources": (), "source_resource": PEER_X}),
        ({"destinations": None, "destination_resource": PEER_X}, {"destination_resource": PEER_X}),
        ({"protocol": "netbird-ssh"}, {"authorized_groups": {}}),
        ({"protocol": "netbird-ssh", "ports": ("22022",)}, {"ports": ("22022",)}),
        (
            {"protocol": "netbird-ssh", "authorized_groups": {"a": ("root",), "b": ()}},
            {"authorized_groups": {"a": ("root",), "b": ()}},
        ),
        ({"protocol": "tcp", "authorized_groups": {"ghost": ("root",)}}, {"authorized_groups": {}}),
    ],
)
def test_accepted_rules(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    made = created(**changes)
    assert {name: getattr(made, name) for name in expected} == expected


INVALID_RULES: list[tuple[dict[str, Any], str]] = [
    ({"sources": ("a",), "source_resource": PEER_X}, "sources or sourceResource, not both"),
    ({"sources": (), "source_resource": PEER_X}, "sources or sourceResource, not both"),
    ({"destination_resource": PEER_X}, "destinations or destinationResource, not both"),
    ({"sources": None}, "give either sources or sourceResource"),
    ({"destinations": None}, "give either destinations or destinationResource"),
    ({"action": "allow"}, "action must be accept or drop"),
    ({"action": ""}, "action must be accept or drop"),
    ({"protocol": "TCP"}, "protocol must be all, tcp, udp, icmp or netbird-ssh"),
    (
        {"protocol": "tcp", "ports": ("80",), "port_ranges": (PortRangeRequest(start=1, end=2),)},
        "ports or port_ranges, not both",
    ),
    *(
        ({"protocol": "tcp", "ports": ("80", port)}, "is not a port between 1 and 65535")
        for port in ("0", "65536", "-1", "", "http", "80-90", "8_0", "\u0661", " 80", "999999999")
    ),
    *(
        ({"protocol": "tcp", "port_ranges": (PortRangeRequest(start=start, end=end),)}, "is not a range between 1")
        for start, end in ((0, 80), (1, 65_536), (443, 80), (1, 0), (-5, 5))
    ),
    ({"protocol": "netbird-ssh", "authorized_groups": {"b": ("root",)}}, "an entry for each source group"),
    ({"protocol": "all", "ports": ("80",)}, "protocol all has no ports"),
    ({"protocol": "icmp", "port_ranges": (PortRangeRequest(start=1, end=2),)}, "protocol icmp has no ports"),
    ({"sources": ("a", "ghost")}, "sources: group ghost not found"),
    ({"destinations": ("ghost",)}, "destinations: group ghost not found"),
    ({"sources": ("",)}, "sources: a group id must not be empty"),
    (
        {"protocol": "netbird-ssh", "authorized_groups": {"a": (), "ghost": ()}},
        "authorized_groups: group ghost not found",
    ),
    (
        {"sources": None, "source_resource": ResourceRef(id="ghost", type="peer")},
        "sourceResource: peer ghost not found",
    ),
    (
        {"destinations": None, "destination_resource": ResourceRef(id="ghost", type="host")},
        "destinationResource: host ghost not found",
    ),
    ({"sources": None, "source_resource": ResourceRef(id="x", type="")}, "must be peer, host, subnet or domain"),
]


@pytest.mark.parametrize("changes, words", INVALID_RULES)
def test_invalid_rules_are_refused_in_new_policies_and_old_ones(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        create_policy(there(), asked({}, changes), context())
    with pytest.raises(Invalid, match=words):
        update_policy(there(policy("p")), "p", asked(changes), context())


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"name": ""}, "policy name must not be empty"),
        ({"rules": ()}, "at least one rule"),
        ({"rules": None}, "at least one rule"),
        ({"source_posture_checks": ("ghost",)}, "posture check ghost not found"),
    ],
)
def test_invalid_policies_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        create_policy(there(), asked(**fields), context())


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"name": "", "rules": ()}, "policy name"),
        ({"sources": None, "source_resource": None, "destinations": None}, "sources"),
        ({"destinations": None, "action": "?"}, "destinations"),
        ({"action": "?", "protocol": "?"}, "action"),
        ({"protocol": "?", "ports": ("80",), "port_ranges": (PortRangeRequest(start=1, end=2),)}, "protocol must"),
        ({"ports": ("0",), "port_ranges": (PortRangeRequest(start=0, end=0),)}, "not both"),
        ({"protocol": "netbird-ssh", "ports": ("0",), "authorized_groups": {"b": ()}}, "is not a port"),
        ({"ports": ("80",), "sources": ("ghost",)}, "has no ports"),
    ],
)
def test_the_first_failure_wins_in_netbirds_order(fields: dict[str, Any], words: str) -> None:
    request = asked(**fields) if "name" in fields else asked(fields)
    with pytest.raises(Invalid, match=words):
        create_policy(there(), request, context())


def test_an_update_replaces_the_policy_and_keeps_the_ids_of_the_rules_it_names() -> None:
    old = policy("p", rule("r1"), rule("r2"), description="old")
    decision = update_policy(
        there(old), "p", asked({"id": "r2", "name": "two"}, {"name": "r1"}, {"name": "three"}, name="q"), context()
    )
    assert (decision.result.id, decision.result.name, decision.result.description) == ("p", "q", "")
    assert [(r.id, r.name) for r in decision.result.rules] == [("r2", "two"), ("r1", "r1"), ("new-1", "three")]
    assert decision.commit is not None
    assert decision.commit.activities == (Activity(code="policy.update", target_id="p", meta={"name": "q"}),)


@pytest.mark.parametrize("rules", [({"id": "ghost"},), ({"id": "r1"}, {"id": "r1"})])
def test_a_rule_id_must_be_one_of_the_policy_and_is_named_once(rules: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(Invalid, match="the policy has no rule"):
        update_policy(there(policy("p", rule("r1"))), "p", asked(*rules), context())


def test_two_rules_of_one_name_without_ids_do_not_collide() -> None:
    old = policy("p", rule("r1", name="r"))
    made = update_policy(there(old), "p", asked({}, {}), context()).result
    assert [r.id for r in made.rules] == ["r1", "new-1"]


OLD = policy(
    "p",
    rule("r1", protocol="tcp", ports=("80", "443"), sources=("a", "b"), destinations=("b",)),
    rule("r2", protocol="udp", port_ranges=(PortRange(1, 2), PortRange(5, 6)), sources=("a",), destinations=("b",)),
)
SAME_1: dict[str, Any] = {"name": "r1", "protocol": "tcp", "ports": ("443", "80"), "sources": ("b", "a")}
SAME_2: dict[str, Any] = {
    "name": "r2",
    "protocol": "udp",
    "port_ranges": (PortRangeRequest(start=5, end=6), PortRangeRequest(start=1, end=2)),
}


@pytest.mark.parametrize(
    "rules",
    [(SAME_1, SAME_2), (SAME_2, SAME_1), ({**SAME_2, "id": "r2"}, {**SAME_1, "id": "r1", "ports": ("80", "443")})],
)
def test_an_update_that_changes_nothing_but_orders_commits_nothing(rules: tuple[dict[str, Any], ...]) -> None:
    decision = update_policy(there(OLD), "p", asked(*rules), context())
    assert decision.commit is None
    assert decision.result == OLD


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "q"},
        {"description": "d"},
        {"enabled": False},
        {"rules": (PolicyRuleRequest(**{**EVERYTHING, **SAME_1}),)},
        *(
            {"rules": tuple(PolicyRuleRequest(**{**EVERYTHING, **same}) for same in ({**SAME_1, **change}, SAME_2))}
            for change in (
                {"description": "d"},
                {"enabled": False},
                {"action": "drop"},
                {"bidirectional": True},
                {"protocol": "udp"},
                {"ports": ("80",)},
                {"sources": ("a",)},
                {"destinations": ("a",)},
            )
        ),
    ],
)
def test_any_change_matters(fields: dict[str, Any]) -> None:
    assert update_policy(there(OLD), "p", asked(SAME_1, SAME_2, **fields), context()).commit is not None


def test_a_policy_is_deleted() -> None:
    commit = delete_policy(there(policy("p")), "p", context()).commit
    assert commit is not None
    assert commit.deletes == (Ref("policy", "p"),)
    assert commit.activities == (Activity(code="policy.delete", target_id="p", meta={"name": "p"}),)


def test_unknown_policies_are_not_found_whatever_the_body() -> None:
    with pytest.raises(Unknown, match="policy ghost not found"):
        update_policy(there(), "ghost", PolicyRequest(), context())
    with pytest.raises(Unknown, match="policy ghost not found"):
        delete_policy(there(), "ghost", context())


def test_the_request_reads_netbirds_json() -> None:
    body = b"""{"name": "p", "description": "", "enabled": true, "rules": [{"name": "r", "enabled": true,
        "action": "accept", "bidirectional": false, "protocol": "tcp", "port_ranges": [{"start": 1, "end": 2}],
        "sourceResource": {"id": "x", "type": "peer"}, "sources": null, "destinations": ["b"]}]}"""
    request = msgspec.json.decode(body, type=PolicyRequest)
    made = create_policy(there(), request, context()).result.rules[0]
    assert (made.source_resource, made.port_ranges, made.destinations) == (PEER_X, (PortRange(1, 2),), ("b",))
