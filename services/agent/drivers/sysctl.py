"""Kernel settings under /proc/sys. What they were before is kept by the loop (core/reconcile/sysctls.py)."""

import contextlib
import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.agent.core.kernel import SysctlEntry
from services.agent.core.reconcile.sysctls import watched

PROC_SYS = Path("/proc/sys")
PER_INTERFACE = "net/ipv4/conf"
GROUPS = ("all", "default")
SHUT = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What a write is answered within a container, which may only read the settings of the machine."""


def read(paths: Iterable[str], root: Path = PROC_SYS) -> dict[str, str]:
    """Path → value of those settings that the kernel has."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError):  # no IPv6, or the interface went in between
            found[path] = (root / path).read_text().strip()
    return found


class Sysctls:
    """Driver of the settings that routing needs, those of the interfaces that exist now included.

    overlay: our interface, whose own settings are left alone. Interface names may have dots, which is why paths have
    slashes.
    """

    def __init__(self, overlay: str, root: Path = PROC_SYS) -> None:
        self._overlay = overlay
        self._root = root

    async def observe(self) -> dict[str, SysctlEntry]:
        """Path → value of every watched setting that the kernel has."""
        values = read(watched(self._interfaces(), self._overlay), self._root)
        return {path: SysctlEntry(path=path, value=value) for path, value in values.items()}

    async def upsert(self, entries: Mapping[str, SysctlEntry]) -> dict[str, str]:
        """Write, in the order given. Path → error."""
        errors = {}
        for path, entry in entries.items():
            try:
                (self._root / path).write_text(entry.value)
            except OSError as problem:
                errors[path] = problem.strerror or str(problem)
                if problem.errno in SHUT:
                    errors[path] += f": set it outside of the container: sysctl -w {path}={entry.value}"
        return errors

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Nothing: a setting is never without a value, and what it was before is written like any other."""
        return {}

    def _interfaces(self) -> list[str]:
        try:
            return sorted(entry.name for entry in (self._root / PER_INTERFACE).iterdir() if entry.name not in GROUPS)
        except OSError:
            return []
