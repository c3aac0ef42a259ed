"""One question to several servers: who is asked next, how long each is waited for, and which answer counts.

Groups race, the servers of a group are asked one after the other. Whoever was asked may answer until all is over, so
that a slow server costs no answer, and a silent one only its share of the time.
"""

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from shared.events.documents import DnsServer

Verdict: TypeAlias = Literal["final", "failed"]

ALONE_S = 4.5
"""For a server without another one in its group: longer than a forwarder takes at most, which says so after 4 s."""

TOGETHER_S = 5.0
AT_LEAST_S = 2.0
"""For all servers of a group, and for one of them before the next is asked."""

LEFT_OUT_S = 30.0
"""A server that was silent twice in a row is asked last for so long."""

SILENT_TIMES = 2

FINAL_ERRORS = frozenset({1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18, 27})
"""Extended DNS errors (RFC 8914) of a SERVFAIL that another server would not mend: what DNSSEC found out, and what
somebody's policy forbids."""


def verdict(rcode: int, errors: Iterable[int] = ()) -> Verdict:
    """Of an answer. errors: the codes of its extended errors. That a name does not exist is an answer."""
    if rcode in (0, 3):  # NOERROR, NXDOMAIN
        return "final"
    return "final" if rcode == 2 and FINAL_ERRORS.intersection(errors) else "failed"


class Standings:
    """Which servers answered lately: one that was silent is asked after the others, and by nobody left out alone."""

    def __init__(self) -> None:
        self._silent: dict[DnsServer, tuple[int, float]] = {}

    def answered(self, server: DnsServer) -> None:
        self._silent.pop(server, None)

    def was_silent(self, server: DnsServer, now: float) -> None:
        times, _ = self._silent.get(server, (0, 0.0))
        self._silent[server] = times + 1, now

    def is_left_out(self, server: DnsServer, now: float) -> bool:
        times, at = self._silent.get(server, (0, 0.0))
        return times >= SILENT_TIMES and now - at < LEFT_OUT_S

    def ordered(self, servers: Iterable[DnsServer], now: float) -> tuple[DnsServer, ...]:
        """The same servers in their order, those that are left out last."""
        return tuple(sorted(servers, key=lambda server: self.is_left_out(server, now)))

    def keep(self, servers: Collection[DnsServer]) -> None:
        """Forget all others."""
        self._silent = {server: held for server, held in self._silent.items() if server in servers}


class _Line:
    """The servers of one group that were not asked yet, and when the next one is."""

    def __init__(self, servers: tuple[DnsServer, ...], now: float) -> None:
        alone = len(servers) == 1
        self.waiting = list(servers)
        self.share_s = ALONE_S if alone else max(AT_LEAST_S, TOGETHER_S / len(servers))
        self.ends_at = now + (ALONE_S if alone else TOGETHER_S)
        self.next_at = now


class Race:
    """asked: servers that the question went to and that may still answer."""

    def __init__(self, groups: Iterable[tuple[DnsServer, ...]], now: float) -> None:
        self._lines = [_Line(group, now) for group in groups if group]
        self._asked: dict[DnsServer, tuple[_Line, float]] = {}
        self._seen = set[DnsServer]()

    @property
    def asked(self) -> frozenset[DnsServer]:
        return frozenset(self._asked)

    def due(self, now: float) -> tuple[DnsServer, ...]:
        """Whom to ask now; none of them twice."""
        found = []
        for line in self._lines:
            while line.waiting and line.next_at <= now < line.ends_at:
                server = line.waiting.pop(0)
                if server not in self._seen:
                    self._seen.add(server)
                    self._asked[server] = line, now
                    line.next_at = now + line.share_s
                    found.append(server)
        for line in self._lines:  # who was asked for one group is not waited for by another
            line.waiting = [server for server in line.waiting if server not in self._seen]
        return tuple(found)

    def failed(self, server: DnsServer, now: float) -> None:
        """It answered that it cannot, or cannot be reached: the next one of its group is due."""
        line, _ = self._asked.pop(server)
        line.next_at = now

    def silent(self, now: float) -> tuple[DnsServer, ...]:
        """Those that did not answer although they had their share of the time."""
        return tuple(server for server, (line, at) in self._asked.items() if now - at >= line.share_s)

    def is_over(self, now: float) -> bool:
        """Whether nobody will answer any more."""
        return all(self._is_done(line, now) for line in self._lines)

    def next_deadline(self) -> float:
        """When to look again, whatever comes; not after it is over."""
        open_ = (line for line in self._lines if line.waiting or any(one is line for one, _ in self._asked.values()))
        return min(min(line.next_at, line.ends_at) if line.waiting else line.ends_at for line in open_)

    def _is_done(self, line: _Line, now: float) -> bool:
        return now >= line.ends_at or not (line.waiting or any(one is line for one, _ in self._asked.values()))
