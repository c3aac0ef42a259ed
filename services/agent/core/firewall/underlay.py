"""How the rest of the host must treat the packets that carry the tunnel, and what may not pass for them.

The agent's own packets and WireGuard's carry CONTROL_MARK. What comes back to them has no mark by itself, so that a
strict or loose reverse path filter looks for their sender in the overlay's table, finds an exit that is unreachable or
leads into the tunnel, and drops the handshake that would bring the exit back. So the mark is given to what comes back;
net.ipv4.conf.all.src_valid_mark makes the filter look at it.
"""

from collections.abc import Iterable

from services.agent.core.intervals import Network
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK, NftChain

_OTHERS = ~CONTROL_MASK & 0xFFFFFFFF


def marked(interface: str, port: int) -> tuple[NftChain, NftChain]:
    """What goes out with CONTROL_MARK is remembered; answers to it, and whatever is for WireGuard's port, get it."""
    give = f"meta mark set meta mark & {_OTHERS:#x} | {CONTROL_MARK:#x}"
    return (
        NftChain(
            name="underlay_in",
            hook="type filter hook prerouting priority -150; policy accept;",
            rules=(
                f'iifname != "{interface}" udp dport {port} fib daddr type local {give}',
                f'iifname != "{interface}" ct direction reply ct mark & {CONTROL_MASK:#x} == {CONTROL_MARK:#x} {give}',
            ),
        ),
        NftChain(
            name="underlay_out",
            hook="type filter hook output priority -150; policy accept;",
            rules=(
                f"meta mark & {CONTROL_MASK:#x} == {CONTROL_MARK:#x} "
                f"ct mark set ct mark & {_OTHERS:#x} | {CONTROL_MARK:#x}",
            ),
        ),
    )


def never_inside(interface: str, port: int) -> str:
    """WireGuard's port is not reached through the tunnel: it would follow its peer into it, and send to itself."""
    return f'iifname "{interface}" udp dport {port} drop'


def never_spoofed(interface: str, overlay: Iterable[Network]) -> tuple[str, ...]:
    """Nothing forwarded into the tunnel says that it is from the overlay: other hosts would take it for this one's.

    IPv4 refuses this host's own address as a source by itself, IPv6 does not.
    """
    return tuple(
        f'iifname != "{interface}" oifname "{interface}" {"ip" if network.version == 4 else "ip6"} saddr {network} drop'
        for network in overlay
    )
