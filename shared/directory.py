"""A file, or a directory, that belongs to one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import BadSetting, Taken


def locked(file: Path) -> int:
    """A descriptor of the file, which is made if need be: it is this process's until that is closed.

    The kernel closes it when the process ends, however it ends. Raises BlockingIOError when another process holds the
    file, OSError when it cannot be opened.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make the directory (mode 0700) and hold it while the block runs.

    Raises Taken when another process holds it, BadSetting when it is no directory this process can write to.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = locked(directory / "lock")
    except BlockingIOError:
        raise Taken(str(directory), "stop who uses it, or choose another directory with --data-dir") from None
    except FileExistsError:
        raise BadSetting("--data-dir", f"{directory} is a file: choose a directory") from None
    except OSError as problem:
        reason = f"cannot write to {directory}: {problem.strerror}: choose another directory"
        raise BadSetting("--data-dir", reason) from None
    try:
        yield
    finally:
        os.close(descriptor)
