"""When a routing peer that is about to stop has reason to wait for its clients, and what shows that they have left."""

from collections.abc import Iterable, Mapping

from services.agent.core.documents import Documents
from services.agent.core.firewall.closing import FORWARD
from services.agent.core.kernel import Count, RuleName, Ruleset


def is_replaceable(documents: Documents, served: Iterable[str]) -> bool:
    """Whether another routing peer may serve one of these routes too, by the same route or by another one."""
    me, known = documents.self_doc, documents.routes
    return me is not None and any(
        not known[id].alone or set(known[id].routing_peers) != {me.peer_id} for id in served if id in known
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
