"""What this host says of itself."""

import platform
import socket

from services.agent.settings import VERSION
from shared.events.signals import PeerMeta


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
    )


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release.get('NAME', 'Linux')} {release.get('VERSION_ID', '')}".strip()
