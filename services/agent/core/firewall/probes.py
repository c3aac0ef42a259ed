"""Probes pass whatever policies say: they decide who carries traffic, and policies are about the traffic.

So they come before the drops of policies (decision A7), and after what shuts withdrawn permits. Nobody gets more by it
than the word of this host's kernel that it is there, and only members of the groups that its routes are distributed to.

A host that carries none of the routes that somebody may use is silent to his probes, whatever policies allow: so he
leaves it also while no word of it reaches him by the bus.
"""

from collections.abc import Collection, Mapping

from services.agent.core.firewall.permits import VERSIONS, Selector, set_name
from services.agent.core.firewall.served import Served
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK, PROBE_IDENTIFIER
from services.agent.core.rule import Connection, Echo, Marked, Member, Origin, Rule

CLIENTS = "clients"
"""Title of the set of those who may use a route that this host carries: a route more is elements, and no rule."""

ANSWERS = Rule((Connection("reply"), Marked("connection", CONTROL_MARK, CONTROL_MASK)), "accept")
"""What comes back to the agent itself."""


def clients(served: Mapping[str, Served], withdrawn: Collection[str] = ()) -> Selector:
    """Who is in a distribution group of a route that this host serves and has not withdrawn."""
    groups = frozenset(
        group for route_id, one in served.items() if route_id not in withdrawn for group in one.distribution
    )
    return Selector(groups=tuple(sorted(groups)), peers=(), title=CLIENTS)


def questions(served: Mapping[str, Served]) -> tuple[Rule, ...]:
    """The rules that let their questions in, and nobody else's."""
    origins = frozenset(Origin(route=route_id) for route_id, one in served.items() if one.distribution)
    asked = [(version, Echo(version, PROBE_IDENTIFIER)) for version in VERSIONS]
    return (
        *(
            Rule((Member(version, "source", set_name(CLIENTS, version)), echo), "accept", origins)
            for version, echo in asked
        ),
        *(Rule((echo,), "drop") for _, echo in asked),
    )
