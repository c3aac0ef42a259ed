"""DNS servers: how people write them, and which of several is asked first."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from shared.events.documents import UpstreamServer
from shared.net.domains import BadDomain, parse_name

PORT, TLS_PORT = 53, 853

MISSES = 8
"""So many questions in a row without an answer, and a server counts as silent. A few names that it never answers for do
not make it one: others are answered in between."""

PROBE_S = 10.0
"""A silent server is tried again with one question each so long."""

_TLS = "tls://"
_BRACKETED = re.compile(r"\[(.*)\](?::(\d+))?\Z")


def parse_server(text: str) -> UpstreamServer:
    """A server from "address", "address:port" or "[address]:port".

    One that is asked over TLS has "tls://" before it, and "#name" behind it where its certificate is for that name and
    not for its address. Raises ValueError.
    """
    tls = text.startswith(_TLS)
    place, _, name = text.removeprefix(_TLS).partition("#") if tls else (text, "", "")
    address, port = place, ""
    if bracketed := _BRACKETED.match(place):
        address, port = bracketed[1], bracketed[2] or ""
    elif place.count(":") == 1:
        address, _, port = place.partition(":")
        port = port or "0"
    number = int(port) if port else TLS_PORT if tls else PORT
    if not 1 <= number <= 65535:
        raise ValueError(text)
    try:
        return UpstreamServer(str(ip_address(address)), number, tls, parse_name(name) if name else "")
    except BadDomain:
        raise ValueError(text) from None


def written(server: UpstreamServer) -> str:
    """The server as `parse_server` reads it, without the usual port."""
    address, usual = server.address, TLS_PORT if server.tls else PORT
    if server.port != usual:
        address = f"[{address}]:{server.port}" if ":" in address else f"{address}:{server.port}"
    return f"{_TLS}{address}{'#' if server.name else ''}{server.name}" if server.tls else address


class Standing:
    """Which servers are silent, so that what they would not answer is asked of others at once (decision D7).

    All times are seconds on one monotonic clock.
    """

    def __init__(self) -> None:
        self._missed: dict[UpstreamServer, int] = {}
        self._probe_at: dict[UpstreamServer, float] = {}

    def order(self, servers: Iterable[UpstreamServer], now: float) -> Sequence[UpstreamServer]:
        """The servers in the order to ask one question: as given, but silent ones last. One that is due for a probe
        keeps its place for this question."""
        first: list[UpstreamServer] = []
        last: list[UpstreamServer] = []
        for server in servers:
            at = self._probe_at.get(server, now)
            (first if at <= now else last).append(server)
            if server in self._probe_at and at <= now:
                self._probe_at[server] = now + PROBE_S
        return (*first, *last)

    def missed(self, server: UpstreamServer, now: float) -> None:
        """It did not answer a question in time."""
        self._missed[server] = self._missed.get(server, 0) + 1
        if self._missed[server] >= MISSES:
            self._probe_at.setdefault(server, now + PROBE_S)

    def answered(self, server: UpstreamServer) -> None:
        """It answered, whatever it said."""
        self._missed.pop(server, None)
        self._probe_at.pop(server, None)
