"""Which forwarded traffic gets this host's address, and how large TCP segments may be in the tunnel."""

from collections.abc import Iterable

from services.agent.core.intervals import Range, Version, partition, text
from services.agent.core.kernel import NftChain, NftSet

IPV4_TCP_HEADERS = 40
IPV6_TCP_HEADERS = 60


def masquerade_set(claims: Iterable[tuple[Range, int, bool, str]], version: Version) -> NftSet:
    """The destinations whose traffic is masqueraded, decided by the longest prefix that covers them (decision G10).

    claims: range, prefix length, wish and id of every served route. Of equal prefixes one that wants it is enough:
    traffic then at least finds its way back. Neighbours of different routes stay apart, so that one more is an element.
    """
    pieces = partition((piece, (length, wanted, route_id)) for piece, length, wanted, route_id in claims)
    elements = frozenset(text(piece, version) for piece, labels in pieces if max(labels)[1])
    return NftSet(name=masquerade_name(version), type=f"ipv{version}_addr", interval=True, elements=elements)


def masquerade_name(version: Version) -> str:
    return f"masquerade_v{version}"


def postrouting(interface: str) -> NftChain:
    """Masquerade what leaves the tunnel for the chosen destinations. One before srcnat: the first to translate wins."""
    leaving = f'iifname "{interface}" oifname != "{interface}"'
    return NftChain(
        name="postrouting",
        hook="type nat hook postrouting priority 99; policy accept;",
        rules=(
            f"{leaving} ip daddr @{masquerade_name(4)} masquerade",
            f"{leaving} ip6 daddr @{masquerade_name(6)} masquerade",
        ),
    )


def clamp(interface: str, mtu: int) -> NftChain:
    """Lower the segment size of TCP connections into the tunnel, where path MTU discovery may not be heard."""
    syn = f'oifname "{interface}" meta nfproto {{}} tcp flags & (syn | rst) == syn tcp option maxseg size set {{}}'
    return NftChain(
        name="clamp",
        hook="type filter hook forward priority -150; policy accept;",
        rules=(syn.format("ipv4", mtu - IPV4_TCP_HEADERS), syn.format("ipv6", mtu - IPV6_TCP_HEADERS)),
    )
