"""Who answers for some names, for the groups that a nameserver group is distributed to."""

from services.management.core.feed.unit import Copies, Given, UnitKind
from services.management.core.model.nameservers import NameserverGroup
from shared.events.documents import DnsServer, NameserversDoc
from shared.events.subjects import group_audience


def _documents(given: Given, group_id: str) -> Copies:
    """Nothing while it is disabled."""
    group = given.state.nameserver_groups.get(group_id)
    if group is None or not group.enabled:
        return
    document = NameserversDoc(
        group_id=group.id,
        nameservers=tuple(DnsServer(server.ip, server.port) for server in group.nameservers),
        domains=group.domains,
        search=group.search_domains_enabled,
    )
    for audience in set(map(group_audience, group.groups)):
        yield audience, group.id, document


NAMESERVERS = UnitKind(name="nameservers", entity=NameserverGroup, makes=NameserversDoc, documents=_documents)
