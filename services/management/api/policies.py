"""Policies: who may talk to whom."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.wire import GroupMinimum, Id, Nothing, example, groups_minimum
from services.management.core.commands import policies as commands
from services.management.core.commands.checks import found
from services.management.core.model.policy import Policy, PolicyRule, ResourceRef
from services.management.core.state import AccountState
from shared.events.documents import Action, Protocol


class PortRangeResponse(msgspec.Struct, frozen=True, kw_only=True):
    start: int
    end: int


class PolicyRuleResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What is empty is absent: ports, port_ranges, authorized_groups, and of each side the kind that is not used."""

    id: Id
    name: str
    description: str
    enabled: bool
    action: Action
    bidirectional: bool
    protocol: Protocol
    ports: list[str] | msgspec.UnsetType = msgspec.UNSET
    port_ranges: list[PortRangeResponse] | msgspec.UnsetType = msgspec.UNSET
    authorized_groups: dict[str, list[str]] | msgspec.UnsetType = msgspec.UNSET
    sources: list[GroupMinimum] | msgspec.UnsetType = msgspec.UNSET
    source_resource: ResourceRef | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="sourceResource")
    destinations: list[GroupMinimum] | msgspec.UnsetType = msgspec.UNSET
    destination_resource: ResourceRef | msgspec.UnsetType = msgspec.field(
        default=msgspec.UNSET, name="destinationResource"
    )


class PolicyResponse(msgspec.Struct, frozen=True, kw_only=True):
    id: Id
    name: str
    description: str
    enabled: bool
    source_posture_checks: list[str]
    rules: list[PolicyRuleResponse]


POLICY = example(
    {
        "name": "web",
        "description": "everybody to the web servers",
        "enabled": True,
        "rules": [
            {
                "name": "web",
                "enabled": True,
                "action": "accept",
                "bidirectional": False,
                "protocol": "tcp",
                "ports": ["443"],
                "sources": ["d0fsqhs3r4mc73a1b2d0"],
                "destinations": ["d0fsqhs3r4mc73a1b2e0"],
            }
        ],
    }
)


@get("/")
async def list_policies(call: NamedDependency[Call]) -> Response[list[PolicyResponse]]:
    """Every policy of the account."""
    return call.answer([_shown(call.state, policy) for policy in by_id(call.state.policies)])


@get("/{id:str}")
async def get_policy(call: NamedDependency[Call], id: FromPath[str]) -> Response[PolicyResponse]:
    """One policy."""
    return _one(call, found(call.state.policies, id, "policy"))


@post("/", status_code=200)
async def create_policy(
    call: NamedDependency[Call], data: Annotated[commands.PolicyRequest, POLICY]
) -> Response[PolicyResponse]:
    """Create a policy."""
    return _one(call, await call.commit(lambda state, context: commands.create_policy(state, data, context)))


@put("/{id:str}", guards=[known(lambda state: state.policies, "policy")])
async def update_policy(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.PolicyRequest, POLICY]
) -> Response[PolicyResponse]:
    """Replace a policy."""
    return _one(call, await call.commit(lambda state, context: commands.update_policy(state, id, data, context)))


@delete("/{id:str}", status_code=200)
async def delete_policy(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a policy."""
    await call.commit(lambda state, context: commands.delete_policy(state, id, context))
    return call.answer(Nothing())


def _one(call: Call, policy: Policy) -> Response[PolicyResponse]:
    return call.answer(_shown(call.state, call.state.policies.get(policy.id, policy)))


def _shown(state: AccountState, policy: Policy) -> PolicyResponse:
    return PolicyResponse(
        id=policy.id,
        name=policy.name,
        description=policy.description,
        enabled=policy.enabled,
        source_posture_checks=list(policy.source_posture_checks),
        rules=[_rule(state, rule) for rule in policy.rules],
    )


def _rule(state: AccountState, rule: PolicyRule) -> PolicyRuleResponse:
    source, destination = rule.source_resource, rule.destination_resource
    return PolicyRuleResponse(
        id=rule.id,
        name=rule.name,
        description=rule.description,
        enabled=rule.enabled,
        action=rule.action,
        bidirectional=rule.bidirectional,
        protocol=rule.protocol,
        ports=list(rule.ports) or msgspec.UNSET,
        port_ranges=[PortRangeResponse(start=r.start, end=r.end) for r in rule.port_ranges] or msgspec.UNSET,
        authorized_groups={id: list(users) for id, users in rule.authorized_groups.items()} or msgspec.UNSET,
        sources=msgspec.UNSET if source else groups_minimum(state, rule.sources),
        source_resource=source or msgspec.UNSET,
        destinations=msgspec.UNSET if destination else groups_minimum(state, rule.destinations),
        destination_resource=destination or msgspec.UNSET,
    )


router = resource("policies", list_policies, get_policy, create_policy, update_policy, delete_policy)
