"""When a routing peer that is about to stop has reason to wait for its clients, and what shows that they have left."""

from collections.abc import Iterable, Mapping

from services.agent.core.documents import Documents
from services.agent.core.firewall.closing import FORWARD
from services.agent.core.kernel import Count, RuleName, Ruleset
from services.agent.core.routing.hagroups import ha_groups


def is_replaceable(documents: Documents, served: Iterable[str]) -> bool:
    """Whether another routing peer serves one of these routes too, as far as this host knows."""
    mine, me = frozenset(served), documents.self_doc
    return me is not None and any(
        group.routing_peers - {me.peer_id}
        for group in ha_groups(documents.routes.values())
        if any(route.route_id in mine for route in group.routes)
    )


def forwarded(ruleset: Ruleset, counts: Mapping[RuleName, Count]) -> int:
    """How many packets from the tunnel were let through so far. counts: what each rule has decided about."""
    return sum(
        counts[chain.name, rule.key].packets
        for chain in ruleset.chains
        if chain.name == FORWARD or chain.name.startswith("permits_")
        for rule in chain.rules
        if rule.verdict == "accept" and (chain.name, rule.key) in counts
    )
