"""Which forwarded traffic gets this host's address, and how large TCP segments may be in the tunnel."""

from collections.abc import Iterable
from typing import Literal

from services.agent.core.firewall.learned import masquerading, without_strays
from services.agent.core.firewall.served import Served
from services.agent.core.intervals import Version
from services.agent.core.kernel import Hook, NftChain, NftSet
from services.agent.core.rule import Clamp, Connection, Decided, Interface, Member, Opening, Rule

IPV4_TCP_HEADERS = 40
IPV6_TCP_HEADERS = 60


def masquerade_set(elements: frozenset[str], version: Version) -> NftSet:
    """The destinations whose traffic is masqueraded.

    Neighbours of different routes stay apart, so that one route more is an element.
    """
    return NftSet(name=masquerade_name(version), type=f"ipv{version}_addr", interval=True, elements=elements)


def masquerade_name(version: Version) -> str:
    return f"masquerade_v{version}"


def postrouting(interface: str, learned: Iterable[Served] = ()) -> NftChain:
    """Masquerade what leaves the tunnel for the chosen destinations. One before srcnat: the first to translate wins.

    learned: routes whose names decide before prefixes do.
    """
    leaving = Interface("in", interface), Interface("out", interface, other=True)
    versions: tuple[Version, Version] = (4, 6)
    return NftChain(
        name="postrouting",
        hook=Hook("nat", "postrouting", 99),
        rules=(
            *masquerading(leaving, learned),
            *(
                Rule((*leaving, Member(version, "destination", masquerade_name(version))), "masquerade")
                for version in versions
            ),
        ),
    )


def strays(interface: str, learned: Iterable[Served] = ()) -> NftChain:
    """End what cannot be masqueraded, of what permits let through: it would leave with its sender's overlay address.

    A connection that this host meets in the middle was translated by another routing peer, and cannot go on from
    another address. Its sender is told at once, instead of waiting for answers that do not come.
    """
    leaving = Interface("in", interface), Interface("out", interface, other=True)
    versions: tuple[Version, Version] = (4, 6)
    ends: tuple[tuple[Literal["stray", "invalid"], Decided], ...] = (("stray", "reset"), ("invalid", "drop"))
    return NftChain(
        name="strays",
        hook=Hook("filter", "forward", 1),
        rules=(
            *without_strays(leaving, learned),
            *(
                Rule((*leaving, Member(version, "destination", masquerade_name(version)), Connection(state)), verdict)
                for version in versions
                for state, verdict in ends
            ),
        ),
    )


def clamp(interface: str, mtu: int) -> NftChain:
    """Lower the segment size of TCP connections into the tunnel, where path MTU discovery may not be heard."""
    headers: tuple[tuple[Version, int], ...] = ((4, IPV4_TCP_HEADERS), (6, IPV6_TCP_HEADERS))
    return NftChain(
        name="clamp",
        hook=Hook("filter", "forward", -150),
        rules=tuple(
            Rule((Interface("out", interface), Opening(version)), Clamp(mtu - size)) for version, size in headers
        ),
    )
