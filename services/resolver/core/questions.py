"""What is asked, and where from."""

from collections.abc import Mapping

import msgspec

from services.resolver.core.routes import RouteKey, Wanted
from shared.events.documents import ResolvingDoc

USUAL = ResolvingDoc()
"""Of an account that has no document of its own."""


class Question(msgspec.Struct, frozen=True, order=True):
    """A name, asked for once for all routes that want it from the same place.

    account: whose routing peers and DNS servers are asked, "" for the servers of the resolver, which are the same for
    all accounts. routing_peers: ids of those that are asked first.
    """

    name: str
    account: str = ""
    routing_peers: tuple[str, ...] = ()


def question(key: RouteKey, route: Wanted, name: str, accounts: Mapping[str, ResolvingDoc]) -> Question:
    """How to ask for a name of the route. accounts: those that have chosen something."""
    chosen = accounts.get(key.account, USUAL)
    peers = route.routing_peers if chosen.routing_peers else ()
    return Question(name, key.account if peers or chosen.servers else "", peers)
