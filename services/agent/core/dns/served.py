"""Which names this host looks up for others."""

from services.agent.core.documents import Documents
from shared.net.domains import is_wildcard


def served_names(documents: Documents, peer_id: str) -> frozenset[str]:
    """Names of the routes that the peer serves, IDNA ASCII, without wildcards."""
    serving = (route for route in documents.routes.values() if peer_id in route.routing_peers)
    return frozenset(name for route in serving for name in route.names if not is_wildcard(name))
