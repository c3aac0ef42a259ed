"""The agent's directory: held by one process."""

import errno
import os
import socket
from pathlib import Path

from services.agent.errors import AlreadyRunning
from shared import files
from shared.directory import locked


class StateDirectory:
    """`path` with mode 0700, held by this process until it ends.

    claim: a name held as well, within this network namespace: what an agent makes there (nftables table, routing table,
    rules, settings) is there once. Raises AlreadyRunning when another agent holds either.
    """

    def __init__(self, path: Path, claim: str) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        self._lock = _lock(path / "lock")
        try:
            self._claim = _claim(claim)
        except AlreadyRunning:
            os.close(self._lock)
            raise
        files.remove_drafts(path)

    def release(self) -> None:
        self._claim.close()
        os.close(self._lock)


def _lock(path: Path) -> int:
    try:
        return locked(path)
    except BlockingIOError:
        raise AlreadyRunning(
            f"state directory {path.parent} is in use by another agent: stop it with `whimbrel down`, "
            "or choose another directory with --state-dir"
        ) from None


def _claim(claimed: str) -> socket.socket:
    """The name in this network namespace that the kernel frees when the process ends, however it ends."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        name.bind(f"\0{claimed}")
    except OSError as problem:
        name.close()
        if problem.errno != errno.EADDRINUSE:
            raise
        raise AlreadyRunning(
            "another agent runs on this host: stop it with `whimbrel down`, "
            "or give this one a network namespace of its own"
        ) from None
    return name
