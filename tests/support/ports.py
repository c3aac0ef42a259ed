"""Ports of loopback for servers of tests, which no other program takes between two starts."""

import itertools
import os
import socket

_FIRST, _LAST = 10000, 32000
"""Below net.ipv4.ip_local_port_range: the system gives none of these to a connection that goes out."""

_numbers = itertools.count(os.getpid() * 97)
"""Each process of a test run begins somewhere else, so that they do not meet."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, another one each time."""
    for number in _numbers:
        port = _FIRST + number % (_LAST - _FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("count() has no end")
