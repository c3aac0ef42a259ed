"""Addresses to listen on: "127.0.0.1:8080", "[::1]:8080"."""

import errno
import socket
from typing import NamedTuple

from shared.errors import BadSetting, Taken


class Listen(NamedTuple):
    """port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str, option: str) -> Listen:
    """Raises BadSetting, which names the option."""
    if "://" in text:
        raise BadSetting(option, "leave the scheme out, write address:port, as 127.0.0.1:8080")
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadSetting(option, "an IPv6 address stands in brackets, as [::1]:8080")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise BadSetting(option, "it must be address:port, as 127.0.0.1:8080")
    return Listen(host, int(port))


def require_free(listen: Listen, option: str) -> Listen:
    """The address with the port the system chose, if it may.

    Raises Taken when somebody else listens there, BadSetting when this process cannot.
    """
    family, _, _, _, address = _resolved(listen, option)
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise Taken(str(listen), f"choose another with {option}") from None
            raise BadSetting(
                option, f"cannot listen on {listen}: {problem.strerror}: choose another with {option}"
            ) from None
        return Listen(listen.host, probe.getsockname()[1])


def _resolved(listen: Listen, option: str) -> tuple[socket.AddressFamily, int, int, str, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise BadSetting(option, f"{listen.host} is no address") from None
    return found[0]  # type: ignore[return-value]
