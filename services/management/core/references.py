"""What refers to a group, a peer or a setup key. Nothing is deleted while there is anything (decision R10)."""

from services.management.core.model.policy import PolicyRule
from services.management.core.state import AccountState


def to_group(state: AccountState, group_id: str) -> list[str]:
    """Names of the routes, policies, setup keys and users that name the group, as "route office"; members do not."""
    return [
        *(
            f"route {route.network_id}"
            for route in state.routes.values()
            if group_id in (*route.peer_groups, *route.groups, *route.access_control_groups)
        ),
        *(
            f"policy {policy.name}"
            for policy in state.policies.values()
            if any(group_id in _groups(rule) for rule in policy.rules)
        ),
        *(f"setup key {key.name}" for key in state.setup_keys.values() if group_id in key.auto_groups),
        *(f"user {user.name}" for user in state.users.values() if group_id in user.auto_groups),
    ]


def to_peer(state: AccountState, peer_id: str) -> list[str]:
    """Names of the routes it carries alone, and of the policies that name it directly."""
    return [
        *(f"route {route.network_id}" for route in state.routes.values() if route.peer == peer_id),
        *(
            f"policy {policy.name}"
            for policy in state.policies.values()
            if any(peer_id in _peers(rule) for rule in policy.rules)
        ),
    ]


def to_setup_key(state: AccountState, key_id: str) -> list[str]:
    """Names of the peers that enrolled with it."""
    return [f"peer {peer.name}" for peer in state.peers.values() if peer.setup_key == key_id]


def _groups(rule: PolicyRule) -> set[str]:
    return {*rule.sources, *rule.destinations, *rule.authorized_groups}


def _peers(rule: PolicyRule) -> set[str]:
    resources = (rule.source_resource, rule.destination_resource)
    return {resource.id for resource in resources if resource is not None and resource.type == "peer"}
