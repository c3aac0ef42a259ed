"""Which connections are not opened for a moment, while the routing peer of their destinations changes."""

from services.agent.core.firewall.permits import VERSIONS
from services.agent.core.intervals import Version
from services.agent.core.kernel import Hook, NftChain, NftSet
from services.agent.core.rule import Interface, Member, Opening, Rule


def held_name(version: Version) -> str:
    return f"held_v{version}"


def held_sets() -> tuple[NftSet, ...]:
    """The destinations. Filled for milliseconds (drivers/nft.py, hold), and empty again by itself."""
    return tuple(
        NftSet(name=held_name(version), type=f"ipv{version}_addr", interval=True, dynamic=True) for version in VERSIONS
    )


def held(interface: str) -> NftChain:
    """Drop what opens a TCP connection to them: its sender sends it again after a second."""
    out = Interface("out", interface)
    return NftChain(
        name="held",
        hook=Hook("filter", "postrouting", 0),
        rules=tuple(
            Rule((out, Member(version, "destination", held_name(version)), Opening(version)), "drop")
            for version in VERSIONS
        ),
    )
