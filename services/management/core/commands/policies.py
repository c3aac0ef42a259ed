"""Create, change and delete policies."""

from collections.abc import Sequence
from typing import Annotated

from msgspec.structs import replace

from services.management.core.commands.checks import found, named
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.policyrules import PolicyRuleRequest, check_references, rule_of
from services.management.core.commands.request import Request, about
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.state import AccountState
from services.management.errors import Invalid


class PolicyRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/policies, which replaces the whole policy. Absent and null lists are empty."""

    name: Annotated[str, about("Not empty.", "web", needed=True)] = ""
    description: str = ""
    enabled: Annotated[bool, about("Whether any of its rules is in force.", True)] = False
    source_posture_checks: Annotated[tuple[str, ...] | None, about("There are none yet.")] = None
    rules: Annotated[tuple[PolicyRuleRequest, ...] | None, about("At least one.", needed=True)] = None


def create_policy(state: AccountState, request: PolicyRequest, context: Context) -> Decision[Policy]:
    """Ids of rules in the request are ignored. Raises Invalid."""
    asked = _policy(state, context.new_id(), request)
    policy = replace(asked, rules=tuple(replace(rule, id=context.new_id()) for rule in asked.rules))
    return changed(context, state.account.id, policy, [_activity("policy.add", policy)], upserts=[policy])


def update_policy(state: AccountState, id: str, request: PolicyRequest, context: Context) -> Decision[Policy]:
    """The policy becomes what the request says, as a whole. Raises Unknown or Invalid.

    A rule without an id is the old rule of the same name, so that a client which sends none changes nothing by it.
    The order of rules and within them means nothing.
    """
    old = found(state.policies, id, "policy")
    asked = _policy(state, id, request)
    new = replace(asked, rules=_identified(asked.rules, old, context))
    if _ordered(new) == _ordered(old):
        return unchanged(old)
    return changed(context, state.account.id, new, [_activity("policy.update", new)], upserts=[new])


def delete_policy(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Raises Unknown."""
    policy = found(state.policies, id, "policy")
    return changed(context, state.account.id, None, [_activity("policy.delete", policy)], deletes=[ref(policy)])


def _policy(state: AccountState, id: str, request: PolicyRequest) -> Policy:
    """The policy as asked for; its rules still have the ids that the request gives them."""
    named(request.name, "policy")
    if not request.rules:
        raise Invalid("rules must hold at least one rule")
    rules = tuple(rule_of(rule) for rule in request.rules)
    for rule in rules:
        check_references(state, rule)
    if request.source_posture_checks:
        raise Invalid(f"source_posture_checks: posture check {request.source_posture_checks[0]} not found")
    return Policy(id=id, name=request.name, description=request.description, enabled=request.enabled, rules=rules)


def _identified(rules: Sequence[PolicyRule], old: Policy, context: Context) -> tuple[PolicyRule, ...]:
    """The rules with their ids of old, or new ones. Raises Invalid for an id the old policy has not, or only once."""
    free = {rule.id: rule.name for rule in old.rules}
    for rule in rules:
        if rule.id and free.pop(rule.id, None) is None:
            raise Invalid(f"rules: the policy has no rule {rule.id}, or the request names it twice")
    identified = []
    for rule in rules:
        same_name = next((id for id, name in free.items() if name == rule.name), "")
        if not rule.id and same_name:
            del free[same_name]
        identified.append(replace(rule, id=rule.id or same_name or context.new_id()))
    return tuple(identified)


def _ordered(policy: Policy) -> Policy:
    """The policy with everything in one order, to compare."""
    rules = sorted(policy.rules, key=lambda rule: rule.id)
    return replace(
        policy, rules=tuple(replace(r, ports=sorted(r.ports), port_ranges=sorted(r.port_ranges)) for r in rules)
    )


def _activity(code: str, policy: Policy) -> Activity:
    return Activity(code=code, target_id=policy.id, meta={"name": policy.name})
