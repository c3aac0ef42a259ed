"""Which tunnels carry somebody's packets, and not only what the agent and WireGuard itself send; and which moved."""

from collections.abc import Collection, Mapping

import msgspec

from services.agent.core.ha.echo import MESSAGE_BYTES
from services.agent.core.intervals import Version
from services.agent.core.kernel import PeerStats

HELD_S = 10.0
"""How long a tunnel counts as carrying after the last packet was seen: people pause for longer than between looks."""

KEEPALIVE_BYTES = 32
HANDSHAKE_BYTES = 2 * 148 + 92 + KEEPALIVE_BYTES
"""The most that WireGuard sends by itself between two looks: when a session begins, and otherwise."""

FORGIVEN_PROBES = 2
"""Probes that the device may not have counted yet at a look."""

ASKED_PER_S = 6
"""How often one who may use a route of this host asks it in turn: the answers are nobody's packets either."""

_IP_HEADER: dict[Version, int] = {4: 20, 6: 40}
_PADDED_TO, _WIREGUARD_BYTES = 16, 32


def probe_bytes(address: str) -> int:
    """What the device counts for a probe to the address."""
    inner = _IP_HEADER[6 if ":" in address else 4] + MESSAGE_BYTES
    return -(-inner // _PADDED_TO) * _PADDED_TO + _WIREGUARD_BYTES


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the device counted for a peer at a look. probes: sent to it so far, each of probe_bytes."""

    stats: PeerStats
    probes: int
    probe_bytes: int


class Traffic:
    """carrying: keys of the tunnels that carry packets now. moved: those that took another path since the last look."""

    def __init__(self) -> None:
        self._looks: dict[str, Look] = {}
        self._at = 0.0
        self._credit: dict[str, int] = {}
        self._seen_at: dict[str, float] = {}
        self.carrying: frozenset[str] = frozenset()
        self.moved: frozenset[str] = frozenset()

    def look(self, looks: Mapping[str, Look], now: float, *, clients: Collection[str]) -> None:
        """Take the counters over. now: monotonic seconds. clients: keys of those that may ask this host in turn."""
        before, self._looks = self._looks, dict(looks)
        passed_s, self._at = now - self._at, now
        allowed = int(ASKED_PER_S * passed_s) + 1
        for key in before.keys() - looks.keys():
            self._credit.pop(key, None)
            self._seen_at.pop(key, None)
        moved = set[str]()
        for key, look in looks.items():
            former = before.get(key)
            if former is None:
                continue
            is_new = former.stats.last_handshake != look.stats.last_handshake
            if is_new or former.stats.endpoint != look.stats.endpoint:
                moved.add(key)
            answers = allowed * look.probe_bytes if key in clients else 0
            if self._unexplained(key, former, look, is_new) > answers:
                self._seen_at[key] = now
        self.moved = frozenset(moved)
        self.carrying = frozenset(key for key, at in self._seen_at.items() if now - at <= HELD_S)

    def _unexplained(self, key: str, former: Look, look: Look, is_new: bool) -> int:
        """Bytes that neither probes nor WireGuard's own messages account for."""
        sent = look.stats.tx_bytes - former.stats.tx_bytes
        probes = max(0, look.probes - former.probes) * look.probe_bytes + self._credit.get(key, 0)
        self._credit[key] = min(max(0, probes - sent), FORGIVEN_PROBES * look.probe_bytes)
        own = HANDSHAKE_BYTES if is_new else KEEPALIVE_BYTES
        return sent - probes - own
