"""What this machine is, as people name it."""

import platform
import socket
from pathlib import Path

import msgspec

IPV6 = Path("/proc/net/if_inet6")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """os: "Debian GNU/Linux 12". kernel: "Linux". kernel_version: "6.1.0-18-amd64". platform: "x86_64".

    ipv6: whether the kernel has IPv6 switched on.
    """

    hostname: str
    os: str
    kernel: str
    kernel_version: str
    platform: str
    ipv6: bool


def describe() -> Machine:
    """This machine now. Never fails: what cannot be found out is the kernel's name or ""."""
    kernel = platform.uname()
    return Machine(
        hostname=socket.gethostname(),
        os=_distribution() or kernel.system,
        kernel=kernel.system,
        kernel_version=kernel.release,
        platform=kernel.machine,
        ipv6=IPV6.exists(),
    )


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release['NAME']} {release.get('VERSION_ID', '')}".strip()
