"""The UDP sockets of a wireguard-go, borrowed to say that its packets may be fragmented on their way.

Linux forbids that by default (DF), to learn the size of a path from what routers answer. WireGuard in the kernel allows
it: where the answers are filtered, packets that are too large would vanish without a word. wireguard-go has no such
setting, but a descriptor of another process can be had (pidfd_getfd, Linux 5.6), and options belong to the socket.
"""

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

SYS_PIDFD_GETFD = 438
"""The same on all architectures."""
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_fragments(pid: int, port: int) -> list[bool]:
    """Of each IPv4 socket of the process at this port, whether its packets must stay whole.

    Raises OSError when this process may not look.
    """
    with _borrowed(pid, port) as sockets:
        return [each.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) != IP_PMTUDISC_DONT for each in sockets]


def allow_fragments(pid: int, port: int) -> None:
    """Let routers take packets of these sockets apart. Raises OSError as `forbid_fragments` does."""
    with _borrowed(pid, port) as sockets:
        for each in sockets:
            each.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)


@contextlib.contextmanager
def _borrowed(pid: int, port: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as open_files:
        handle = os.pidfd_open(pid)
        open_files.callback(os.close, handle)
        found = []
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if not os.readlink(entry).startswith("socket:"):
                    continue
                borrowed = open_files.enter_context(socket.socket(fileno=_get(handle, int(entry.name))))
                if borrowed.family == socket.AF_INET and borrowed.type == socket.SOCK_DGRAM:
                    found += [borrowed] if borrowed.getsockname()[1] == port else []
        yield found


def _get(handle: int, descriptor: int) -> int:
    copy = int(_libc.syscall(SYS_PIDFD_GETFD, handle, descriptor, 0))
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return copy
