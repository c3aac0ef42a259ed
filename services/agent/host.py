"""What this host says of itself."""

import platform
import socket
from pathlib import Path

from shared.events.signals import PeerMeta
from shared.version import VERSION

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/net")
_DISABLE_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


def meta(hostname: str) -> PeerMeta:
    """hostname: "" for the system's."""
    system = platform.uname()
    return PeerMeta(
        hostname=hostname or socket.gethostname(),
        os=_distribution(),
        kernel=system.system,
        kernel_version=system.release,
        platform=system.machine,
        version=VERSION,
        ipv6=new_interfaces_have_ipv6(),
    )


def new_interfaces_have_ipv6() -> bool:
    """Whether an interface made now may have an IPv6 address; people switch that off for the host, or it has none."""
    try:
        return _DISABLE_IPV6.read_text().strip() == "0"
    except OSError:
        return False


def life_of_settings() -> str:
    """Names the time since the network settings of this host began: this boot, and this network namespace."""
    return f"{_BOOT_ID.read_text().strip()} {_NAMESPACE.stat().st_ino}"


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release.get('NAME', 'Linux')} {release.get('VERSION_ID', '')}".strip()
