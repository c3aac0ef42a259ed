"""Probes pass whatever policies say: they decide who carries traffic, and policies are about the traffic.

So they come before the drops of policies (decision A7), and after what shuts withdrawn permits. Nobody gets more by it
than the word of this host's kernel that it is there, and only members of the groups that its routes are distributed to.

A host that carries none of the routes that somebody may use says so in its answers, whatever policies allow: so he
leaves it at once also while no word of it reaches him by the bus. To everybody else it is silent.
"""

from collections.abc import Collection, Iterator, Mapping

from services.agent.core.firewall.permits import VERSIONS, Selector, set_name
from services.agent.core.firewall.served import Served
from services.agent.core.intervals import Version
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK, PROBE_IDENTIFIER, PROBE_REFUSED, Ruleset
from services.agent.core.rule import Connection, Echo, Marked, Member, Origin, Renumber, Rule

CLIENTS, CARRIED = "clients", "carried"
"""Titles of the sets of those who may use a route of this host, and of those of them for whom it carries one: a route
more is elements, and no rule."""

ANSWERS = Rule((Connection("reply"), Marked("connection", CONTROL_MARK, CONTROL_MASK)), "accept")
"""What comes back to the agent itself."""


def clients(served: Mapping[str, Served], withdrawn: Collection[str] = ()) -> tuple[Selector, Selector]:
    """Who is in a distribution group of a route that this host serves, and of one that it has not withdrawn."""
    carried = {route_id: one for route_id, one in served.items() if route_id not in withdrawn}
    return _distribution(CLIENTS, served), _distribution(CARRIED, carried)


def asking(table: Ruleset | None) -> frozenset[str]:
    """The overlay addresses of those whose questions the table lets in as clients'."""
    names = {set_name(CLIENTS, version) for version in VERSIONS}
    return frozenset().union(*(one.elements for one in table.sets if one.name in names)) if table else frozenset()


def _distribution(title: str, routes: Mapping[str, Served]) -> Selector:
    groups = frozenset(group for one in routes.values() for group in one.distribution)
    return Selector(groups=tuple(sorted(groups)), peers=(), title=title)


def questions(served: Mapping[str, Served]) -> tuple[Rule, ...]:
    """The rules that let their questions in, and nobody else's."""
    origins = frozenset(Origin(route=route_id) for route_id, one in served.items() if one.distribution)
    return tuple(rule for version in VERSIONS for rule in _questions(version, origins))


def _questions(version: Version, origins: frozenset[Origin]) -> Iterator[Rule]:
    asked = Echo(version, PROBE_IDENTIFIER)
    client = Member(version, "source", set_name(CLIENTS, version))
    yield Rule((Member(version, "source", set_name(CARRIED, version)), asked), "accept", origins)
    yield Rule((client, asked), Renumber(version, PROBE_REFUSED), origins)
    yield Rule((client, asked), "accept", origins)
    yield Rule((asked,), "drop")
