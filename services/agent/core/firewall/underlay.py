"""How the rest of the host must treat the packets that carry the tunnel, and what may not pass for them.

The agent's own packets and WireGuard's carry CONTROL_MARK. Their replies have no mark by themselves, so that a
strict or loose reverse path filter looks for their sender in the overlay's table, finds an exit that is unreachable or
leads into the tunnel, and drops the handshake that would bring the exit back. So the table marks the replies;
net.ipv4.conf.all.src_valid_mark makes the filter look at it.
"""

from collections.abc import Iterable

from services.agent.core.intervals import Network, Range
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK, Hook, NftChain
from services.agent.core.rule import Connection, Interface, Local, Marked, Ports, Rule, SetMark, Within


def marked(interface: str, port: int) -> tuple[NftChain, NftChain]:
    """Mark the connections of packets with CONTROL_MARK; their replies, and packets for WireGuard's port, get it."""
    give = SetMark("packet", CONTROL_MARK, CONTROL_MASK)
    remember = SetMark("connection", CONTROL_MARK, CONTROL_MASK)
    outside = Interface("in", interface, other=True)
    return (
        NftChain(
            name="underlay_in",
            hook=Hook("filter", "prerouting", -150),
            rules=(
                Rule((outside, _for(port), Local()), give),
                Rule((outside, Connection("answer"), Marked("connection", CONTROL_MARK, CONTROL_MASK)), give),
            ),
        ),
        NftChain(
            name="underlay_out",
            hook=Hook("filter", "output", -150),
            rules=(Rule((Marked("packet", CONTROL_MARK, CONTROL_MASK),), remember),),
        ),
    )


def never_inside(interface: str, port: int) -> Rule:
    """WireGuard's port is not reached through the tunnel: it would follow its peer into it, and send to itself."""
    return Rule((Interface("in", interface), _for(port)), "drop")


def never_spoofed(interface: str, overlay: Iterable[Network]) -> tuple[Rule, ...]:
    """Drop packets forwarded into the tunnel with a source in the overlay: other hosts would take them for this one's.

    IPv4 refuses this host's own address as a source by itself, IPv6 does not.
    """
    inwards = Interface("in", interface, other=True), Interface("out", interface)
    return tuple(
        Rule((*inwards, Within(4 if network.version == 4 else 6, "source", str(network))), "drop")
        for network in overlay
    )


def _for(port: int) -> Ports:
    return Ports("udp", (Range(port, port),))
