"""Finds out what keeps the DNS of this host, and has its driver."""

import shutil
from pathlib import Path

from services.agent.core.dns.hostdns import FileBefore, Mechanism, Surroundings, Wanted, mechanism
from services.agent.core.dns.resolvconf import ResolvConf, parse
from services.agent.drivers.resolv_conf import RESOLV_CONF, ResolvConfFile
from services.agent.drivers.resolvconf import COMMAND, Resolvconf
from services.agent.drivers.resolved import Resolved
from services.agent.ports import HostDnsDriver, Kept

_NAMESPACE, _NAMESPACE_OF_HOST = Path("/proc/self/ns/net"), Path("/proc/1/ns/net")
_ROOT_OF_HOST = Path("/proc/1/root")
_MOUNTS = Path("/proc/self/mountinfo")

FOREIGN = (
    "this network namespace has no resolv.conf of its own, and the host's is not changed for it: "
    "mount one at /etc/resolv.conf, as `ip netns exec` does with /etc/netns/NAME/resolv.conf"
)


class NoHostDns:
    """Leaves the DNS of the host as it is. limit: why, for people."""

    name: Mechanism = "none"

    def __init__(self, limit: str = "") -> None:
        self.limit = limit

    async def own(self) -> ResolvConf:
        """Raises OSError where there is no file."""
        return parse(RESOLV_CONF.read_bytes().decode(errors="replace"))

    async def apply(self, wanted: Wanted) -> bool:
        return False

    async def revert(self) -> None:
        """There is nothing to put back."""


async def choose(interface: str, kept: Kept[FileBefore]) -> HostDnsDriver:
    """What this host goes by now. kept: what was in the file before it was ours."""
    file, resolved = ResolvConfFile(kept), Resolved(interface)
    await file.revert()  # of a run that ended without, whatever this host goes by since
    own = await file.own()
    there = Surroundings(
        resolv_conf=_text(),
        resolved=await resolved.is_there(),
        resolvconf=shutil.which(COMMAND) is not None,
        foreign=_foreign(),
    )
    match mechanism(there, own):
        case "systemd-resolved":
            return resolved
        case "resolvconf":
            return Resolvconf(interface)
        case "none":
            return NoHostDns(there.foreign)
        case "file":
            return file


def _text() -> str | None:
    try:
        return RESOLV_CONF.read_bytes().decode(errors="replace")
    except OSError:
        return None


def _foreign() -> str:
    """Why the file is not ours to write, "" if it is: the names of one network namespace are nothing to the others.

    Where process 1 may not be looked at, as in some containers, the file is ours where one is mounted for us alone.
    """
    try:
        if _NAMESPACE.samefile(_NAMESPACE_OF_HOST):
            return ""
        is_ours = not RESOLV_CONF.samefile(_ROOT_OF_HOST / RESOLV_CONF.relative_to("/"))
    except PermissionError:
        is_ours = any(line.split()[4] == str(RESOLV_CONF) for line in _MOUNTS.read_text().splitlines())
    except OSError:
        is_ours = False
    return "" if is_ours else FOREIGN
