"""What one change costs an agent before it touches the kernel, with 1,000 peers and 5,000 routes: CPU of a pass's core.

A change comes as a message of the feed, and ends with the state that the kernel shall have. Reference in the same run:
the same state computed from nothing.
"""

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from msgspec.structs import replace

from services.agent.core.documents import FeedView
from services.agent.core.reconcile.desired import Computation, desired
from shared.events.documents import Document, FeedMessage, PeerDoc, RouteDoc, RuleDoc
from shared.events.subjects import FeedKey, group_audience, peer_audience
from tests.bench.figures import Figure, figure
from tests.unit.agent import make

PEERS, ROUTES, RULES, GROUPS = 1_000, 5_000, 200, 50
ROUTING_PEERS = 10
CHANGES = 20
ACCOUNT = "bench"
EVERYONE = group_audience(make.ALL)


class Host:
    """A client of all routes, or a routing peer of each of them."""

    def __init__(self, *, serves: bool) -> None:
        self._serves = serves
        self._sequence = count(1)
        self._view = FeedView()
        self._computation = Computation()
        self._local = make.local(f"p{number}" for number in range(0, PEERS, 2))
        self.put("self", "me", make.me("me", *(f"g{number}" for number in range(3))), audience=peer_audience("me"))
        self.put("settings", "account", make.settings())
        for number in range(PEERS):
            self.put("peer", f"p{number}", peer(number))
        for number in range(RULES):
            self.put("rule", f"q{number}", rule(number))
        for number in range(ROUTES):
            self.put("route", f"r{number}", self.route(number))

    def put(self, kind: str, name: str, document: Document, *, audience: str = EVERYONE) -> None:
        """A message of the feed comes."""
        sequence = next(self._sequence)
        self._view.apply(FeedKey(ACCOUNT, audience, kind, name), sequence, FeedMessage(sequence, document))

    def route(self, number: int, **fields: Any) -> RouteDoc:
        """Every routing peer's copy has permits; clients of the route never see them."""
        peers = sorted(f"p{(number % GROUPS) * ROUTING_PEERS + other}" for other in range(ROUTING_PEERS))
        permits = tuple(
            make.permit(f"q{(number + other) % RULES}", f"g{(number + other) % GROUPS}", protocol="tcp")
            for other in range(3)
        )
        plain: dict[str, Any] = {
            "by": (*peers, *(("me",) if self._serves else ())),
            "permits": permits if self._serves else None,
        }
        return make.route(f"r{number}", f"10.{number // 256}.{number % 256}.0/24", **{**plain, **fields})

    def connect(self, peer_id: str) -> None:
        """A path comes up."""
        self._local = replace(self._local, connected=self._local.connected | {peer_id})

    def compute(self) -> None:
        """What a pass computes, from what came."""
        found = self._computation.update(self._view.documents(), self._local)
        self._local = replace(self._local, routing_peers=found.routing_peers)

    def from_nothing(self) -> None:
        """The same without anything kept."""
        desired(self._view.documents(), self._local)


def peer(number: int, **fields: Any) -> PeerDoc:
    groups = (f"g{number % GROUPS}", f"g{(number * 7 + 1) % GROUPS}")
    address = 256 + number
    plain: dict[str, Any] = {"v4": f"100.64.{address // 256}.{address % 256}", "v6": f"fd00:64::{address:x}"}
    return make.peer(f"p{number}", *groups, **{**plain, **fields})


def rule(number: int, **fields: Any) -> RuleDoc:
    plain: dict[str, Any] = {"protocol": "tcp", "ports": make.ports(1000 + number)}
    return make.rule(f"q{number}", (f"g{number % GROUPS}",), (f"g{number % 7}",), **{**plain, **fields})


def measure() -> list[Figure]:
    return [
        one for serves in (False, True) for one in _measured(Host(serves=serves), "gateway" if serves else "client")
    ]


def _measured(host: Host, role: str) -> list[Figure]:
    host.compute()
    other = (make.permit("q1", "g1", protocol="udp"),)
    changes: dict[str, Callable[[int], None]] = {
        "a route's metric": lambda n: host.put("route", f"r{n}", host.route(n, metric=7)),
        "a route more": lambda n: host.put("route", f"r{ROUTES + n}", host.route(ROUTES + n)),
        "a peer more": lambda n: host.put("peer", f"p{PEERS + n}", peer(PEERS + n)),
        "a rule's port": lambda n: host.put("rule", f"q{n}", rule(n, ports=make.ports(22))),
        "a route's permits": lambda n: host.put("route", f"r{n + 100}", host.route(n + 100, permits=other)),
        "a path": lambda n: host.connect(f"p{2 * n + 1}"),
        "nothing": lambda n: host.put("rule", f"q{RULES - 1}", rule(RULES - 1)),
    }
    figures = []
    for what, change in changes.items():
        took = []
        for number in range(CHANGES):
            change(number)
            took.append(cpu_ms(host.compute))
        figures.append(figure(f"{role}: {what}", "ms", took, "1" if what == "nothing" else "10"))
    reference = [cpu_ms(host.from_nothing) for _ in range(5)]
    return [*figures, figure(f"{role}, reference: from nothing", "ms", reference, "150")]


def cpu_ms(call: Callable[[], None]) -> float:
    begin = time.process_time()
    call()
    return (time.process_time() - begin) * 1000
