"""What a routing peer lets through for one route (decisions A1, A2, A3)."""

from collections.abc import Iterable

from services.management.core.feed.visibility import source_peers
from services.management.core.model.policy import PolicyRule
from services.management.core.model.route import Route
from shared.events.documents import Permit, PortRange


def permits(route: Route, rules: Iterable[PolicyRule]) -> tuple[Permit, ...]:
    """The route's permits, sorted by rule; () when nothing is permitted.

    rules: those in force that have one of the route's access control groups among their destinations; a rule that
    is given twice counts once. Without access control groups they do not matter.
    """
    if not route.access_control_groups:
        return (_open_to_distribution(route),)
    once = {rule.id: rule for rule in rules}
    return tuple(_permit(once[rule_id]) for rule_id in sorted(once))


def port_ranges(rule: PolicyRule) -> tuple[PortRange, ...]:
    """The rule's ports, sorted; () means all."""
    return tuple(sorted({*rule.port_ranges, *(PortRange(int(port), int(port)) for port in rule.ports)}))


def _open_to_distribution(route: Route) -> Permit:
    return Permit(
        rule_id="", action="accept", protocol="all", ports=(), sources=tuple(sorted(set(route.groups))), source_peers=()
    )


def _permit(rule: PolicyRule) -> Permit:
    return Permit(
        rule_id=rule.id,
        action=rule.action,
        protocol=rule.protocol,
        ports=port_ranges(rule),
        sources=tuple(sorted(set(rule.sources))),
        source_peers=source_peers(rule),
    )
