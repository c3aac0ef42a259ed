"""How far the log of this installation has come, remembered beside the seeds and so apart from the bus."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared import files

FILE = "log-reached"


class Reached:
    """Two numbers in <folder>/log-reached, for as many processes as share the folder.

    The first is the newest sequence that the log is known to have had; 0 says that the log has not begun, so that a
    first start may begin it. Whoever makes the seeds writes the 0, once: where nothing is remembered nothing may begin.
    The second counts the messages that are missing and whose loss somebody has accepted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / FILE

    def read(self) -> tuple[int, int] | None:
        """(newest sequence, missing messages), None when nothing is remembered or it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            newest, missing = map(int, self._file.read_text().split())
            return newest, missing
        return None

    @property
    def writable(self) -> bool:
        return os.access(self._folder, os.W_OK)

    def begin(self) -> None:
        """The log has not begun. Changes nothing where something is remembered. Raises OSError."""
        with self._alone():
            if not self._file.exists():
                self._write(0, 0)

    def note(self, sequence: int) -> None:
        """The log has come as far as that. Raises OSError."""
        with self._alone():
            newest, missing = self.read() or (0, 0)
            if sequence > newest:
                self._write(sequence, missing)

    def accept(self, sequence: int, missing: int) -> None:
        """The log ends there, and so many of its messages are missing, for good. Raises OSError."""
        with self._alone():
            self._write(sequence, missing)

    def hand_over(self, to: "Reached") -> None:
        """Let the other folder remember it from now on, unless it does already. Raises OSError."""
        remembered = self.read()
        if remembered is not None:
            if not to._file.exists():
                to.accept(*remembered)
            self._file.unlink()

    def _write(self, newest: int, missing: int) -> None:
        files.write(self._file, f"{newest} {missing}\n".encode())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
