"""Who is asked for the names of the account's routes, for the resolver."""

from services.management.core.feed.unit import Copies, Given, UnitKind
from services.management.core.model.account import Account
from services.management.core.model.upstreams import Upstream
from shared.events.documents import SETTINGS_ID, ResolvingDoc, UpstreamServer
from shared.events.subjects import RESOLVER_AUDIENCE


def _documents(given: Given, _id: str) -> Copies:
    """Nothing for an account that leaves it to routing peers and the resolver."""
    settings = given.state.account.settings
    document = ResolvingDoc(
        servers=tuple(map(_server, settings.resolver_nameservers)),
        routing_peers=settings.routing_peer_dns_resolution_enabled,
    )
    if document != ResolvingDoc():
        yield RESOLVER_AUDIENCE, SETTINGS_ID, document


def _server(upstream: Upstream) -> UpstreamServer:
    return UpstreamServer(upstream.ip, upstream.port, upstream.ns_type == "tls", upstream.name)


RESOLVING = UnitKind(name="resolving", entity=Account, makes=ResolvingDoc, documents=_documents, only_id=SETTINGS_ID)
