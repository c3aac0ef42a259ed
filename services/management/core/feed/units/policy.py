"""The rules of a policy, for both of their sides."""

from collections.abc import Iterator

from services.management.core.feed.permits import port_ranges
from services.management.core.feed.unit import Copies, Given, Relations, Topic, UnitKind
from services.management.core.feed.visibility import (
    Sight,
    destination_audiences,
    destination_peers,
    rules_in_force,
    sights,
    source_audiences,
    source_peers,
)
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.state import AccountState
from shared.events.documents import RuleDoc
from shared.events.subjects import FeedKey

RULES = "rules"
"""Topic: which rules in force have the group `id` among their destinations."""


def _documents(given: Given, policy_id: str) -> Copies:
    policy = given.state.policies.get(policy_id)
    if policy is None:
        return
    for rule in rules_in_force(policy):
        document = _rule_document(policy, rule)
        for audience in source_audiences(rule) | destination_audiences(rule):
            yield audience, rule.id, document


def _rule_document(policy: Policy, rule: PolicyRule) -> RuleDoc:
    return RuleDoc(
        rule_id=rule.id,
        policy_id=policy.id,
        action=rule.action,
        protocol=rule.protocol,
        bidirectional=rule.bidirectional,
        ports=port_ranges(rule),
        sources=tuple(sorted(set(rule.sources))),
        source_peers=source_peers(rule),
        destinations=tuple(sorted(set(rule.destinations))),
        destination_peers=destination_peers(rule),
    )


def _owner(_key: FeedKey, document: RuleDoc) -> str:
    return document.policy_id


def _raised(_state: AccountState, old: Policy | None, new: Policy | None) -> Iterator[Topic]:
    """Only destinations of rules that are in force in one of the two and not in the other."""
    before = list(rules_in_force(old)) if old else []
    after = list(rules_in_force(new)) if new else []
    differing = (*(rule for rule in before if rule not in after), *(rule for rule in after if rule not in before))
    return (Topic(RULES, group) for rule in differing for group in rule.destinations)


def _named(policy: Policy) -> set[str]:
    """Also by rules that are not in force: switching a policy must not change every peer."""
    return {group for rule in policy.rules for group in (*rule.sources, *rule.destinations)}


def _shown(state: AccountState, _relations: Relations, policy_id: str) -> set[Sight]:
    policy = state.policies.get(policy_id)
    return sights(policy) if policy else set()


POLICY = UnitKind(
    name="policy",
    entity=Policy,
    makes=RuleDoc,
    documents=_documents,
    owner_of=_owner,
    withdrawn_first=True,
    raises=_raised,
    names=_named,
    shows=_shown,
)
