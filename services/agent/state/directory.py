"""The agent's directory: held by one process, files of mode 0600, and a bad file is set aside, never deleted."""

import errno
import os
import socket
from pathlib import Path

from services.agent.errors import AlreadyRunning
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

    def release(self) -> None:
        self._claim.close()
        os.close(self._lock)


def write(file: Path, content: bytes) -> None:
    """Replace the file's content, mode 0600: durable once this returns, its directory entry included.

    Raises OSError with the file's name; what was there before is there still.
    """
    try:
        _write(file, content)
    except OSError as problem:
        problem.filename = problem.filename or str(file)  # the kernel names none for a write
        raise


def _write(file: Path, content: bytes) -> None:
    draft = file.with_name(f"{file.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def set_aside(file: Path) -> Path:
    """The name the file has now: itself with `.corrupt-<n>`, the lowest number that is free."""
    number = 1
    while (aside := file.with_name(f"{file.name}.corrupt-{number}")).exists():
        number += 1
    return file.rename(aside)


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
