"""Whether a disk takes anything."""

import errno
import os
import tempfile
from pathlib import Path

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the kernel says of a write for which there is no room, on the disk or within a quota."""


def has_room(directory: Path, wanted: int) -> bool:
    """Whether a file of that many bytes fits now: tried, as neither quotas nor reserved blocks show in what is free.

    A disk that was made read-only after an error, or that is gone, has none either.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, wanted)
    except OSError:
        return False
    return True
