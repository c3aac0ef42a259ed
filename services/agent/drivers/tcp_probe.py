"""TCP connections as probes: who accepts one is there. Each is ended at once with a reset; nothing is said on it."""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections import OrderedDict
from typing import NamedTuple

from services.agent.core.kernel import CONTROL_MARK
from services.agent.ports import Accepted

AT_ONCE = 256
"""Connections that are being made; of more than that the oldest is given up."""

GIVEN_UP_S = 2.0
"""Who has not accepted until then is asked anew: a late answer to a repeated SYN would say nothing of the path."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


class _Attempt(NamedTuple):
    number: int
    address: str
    begun_at: float
    socket: socket.socket


class TcpProbe:
    """Connections leave by the host's own routes: they carry CONTROL_MARK, and no rule of the overlay leads them."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._attempts: OrderedDict[int, _Attempt] = OrderedDict()

    def filenos(self) -> tuple[int, ...]:
        return (self._poll.fileno(),)

    def send(self, address: str, port: int, number: int) -> str:
        """Begin a connection; gives "", or why nothing left this host."""
        now = time.monotonic()
        while self._attempts and (oldest := next(iter(self._attempts.values()))):
            if len(self._attempts) < AT_ONCE and now - oldest.begun_at < GIVEN_UP_S:
                break
            self._end(oldest)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as problem:
            return problem.strerror or str(problem)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, CONTROL_MARK)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        code = opened.connect_ex((address, port))
        if code and code not in _UNDER_WAY:
            opened.close()
            return "" if code == errno.ECONNREFUSED else os.strerror(code)
        self._attempts[opened.fileno()] = _Attempt(number, address, now, opened)
        self._poll.register(opened.fileno(), select.EPOLLOUT)
        return ""

    def read(self) -> list[Accepted]:
        """Which connections were accepted since, without waiting."""
        accepted = list[Accepted]()
        for descriptor, _ in self._poll.poll(0, AT_ONCE):
            attempt = self._attempts[descriptor]
            if not attempt.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                accepted.append(Accepted(attempt.address, attempt.number, time.monotonic()))
            self._end(attempt)
        return accepted

    def close(self) -> None:
        for attempt in list(self._attempts.values()):
            self._end(attempt)
        self._poll.close()

    def _end(self, attempt: _Attempt) -> None:
        with contextlib.suppress(OSError):
            self._poll.unregister(attempt.socket.fileno())
        del self._attempts[attempt.socket.fileno()]
        attempt.socket.close()
