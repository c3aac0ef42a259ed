"""Probes pass whatever policies say: they decide who carries traffic, and policies are about the traffic.

So they come before the drops of policies (decision A7), and after what shuts withdrawn permits. Nobody gets more by it
than the word of this host's kernel that it is there, and only members of the groups that its routes are distributed to.
"""

from collections.abc import Mapping

from services.agent.core.firewall.permits import VERSIONS, Selector, set_name
from services.agent.core.firewall.served import Served
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK
from services.agent.core.rule import Connection, Echo, Marked, Member, Origin, Rule

CLIENTS = "clients"
"""Title of the set of those who may use a route of this host: a route more is elements, and no rule."""

ANSWERS = Rule((Connection("reply"), Marked("connection", CONTROL_MARK, CONTROL_MASK)), "accept")
"""What comes back to the agent itself."""


def clients(served: Mapping[str, Served]) -> Selector:
    """Who is in a distribution group of a route that this host serves."""
    groups = frozenset(group for one in served.values() for group in one.distribution)
    return Selector(groups=tuple(sorted(groups)), peers=(), title=CLIENTS)


def questions(served: Mapping[str, Served]) -> tuple[Rule, ...]:
    """The rules that let their echo requests in."""
    origins = frozenset(Origin(route=route_id) for route_id, one in served.items() if one.distribution)
    return tuple(
        Rule((Member(version, "source", set_name(CLIENTS, version)), Echo(version)), "accept", origins)
        for version in VERSIONS
    )
