"""A directory that belongs to one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import BadSetting, Taken


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make the directory (mode 0700) and hold it while the block runs.

    Raises Taken when another process holds it, BadSetting when it is no directory this process can write to. The
    kernel lets go of it when the process ends, however it ends.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BadSetting("--data-dir", f"{directory} is a file: choose a directory") from None
    except OSError as problem:
        reason = f"cannot write to {directory}: {problem.strerror}: choose another directory"
        raise BadSetting("--data-dir", reason) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(str(directory), "stop who uses it, or choose another directory with --data-dir") from None
        yield
    finally:
        os.close(descriptor)
