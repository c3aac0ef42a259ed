"""Run a command that the kernel kills when the process that started it ends, however it ends.

A small program between the two: what runs between fork and exec in a process with threads must not be Python.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""linux/prctl.h. It stays over exec, and is about the thread that forked: start children from the main thread."""


def die_with_parent(*command: str) -> tuple[str, ...]:
    """The command line to start instead of `command` (an absolute path and its arguments)."""
    return (sys.executable, "-IS", str(Path(__file__).resolve()), str(os.getpid()), *command)


def _main(parent: str, *command: str) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the kernel knew
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    _main(*sys.argv[1:])
