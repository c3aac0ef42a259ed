"""Metrics of what the presence documents say, on the replica that writes them."""

from collections.abc import Mapping

from shared.events.documents import Document, PresenceDoc
from shared.events.subjects import FeedKey
from shared.metrics import REGISTRY, Counter, Gauge

_STATES = ("draining", "withdrawn", "away")

_writes = Counter("whimbrel_presence_writes", "Presence documents and tombstones written to FEED", registry=REGISTRY)
_peers = Gauge(
    "whimbrel_routing_peers",
    "Routing peers that drain, do not carry a route of theirs, or have no agent; of the replica that writes FEED",
    ["state"],
    registry=REGISTRY,
)


class Standings:
    """Which routing peers are in which state, by account and peer id."""

    def __init__(self) -> None:
        self._in: dict[str, set[tuple[str, str]]] = {state: set() for state in _STATES}
        for state, peers in self._in.items():
            _peers.labels(state).set_function(peers.__len__)

    def forget(self) -> None:
        for peers in self._in.values():
            peers.clear()

    def found(self, account: str, peer_id: str, desired: Mapping[FeedKey, Document], writes: int) -> None:
        """The peer's documents as they should be, and how many had to be written for that."""
        _writes.inc(writes)
        for state in _STATES:
            is_in = any(_is_in(state, document) for document in desired.values())
            (self._in[state].add if is_in else self._in[state].discard)((account, peer_id))


def _is_in(state: str, document: object) -> bool:
    if not isinstance(document, PresenceDoc):
        return False
    return {"draining": document.draining, "withdrawn": bool(document.withdrawn), "away": not document.agent}[state]
