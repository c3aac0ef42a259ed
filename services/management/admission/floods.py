"""Hosts that send more than any agent has reason to: they are ended, and kept out for a while.

The bus has no such limit, and all accounts share it: one host could keep signal and management busy for everybody.
"""

import msgspec

OVER_S = 10.0
"""The shortest time in which MOST_MESSAGES or MOST_BYTES may be sent. Who meets 10,000 peers sends 10,000 signals."""

MOST_MESSAGES = 20_000
MOST_BYTES = 64 * 1024 * 1024

KEPT_OUT_S = 300.0
FORGOTTEN_AFTER_S = 120.0


class Sent(msgspec.Struct, frozen=True):
    """What a connection had sent at a moment of the server's clock, in seconds."""

    messages: int
    octets: int
    at: float


class Floods:
    """All times are seconds on one clock; each server has its own for `sent`."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, int], Sent] = {}
        self._kept_out: dict[tuple[str, str], float] = {}

    def flooding(self, server: str, cid: int, sent: Sent, *, since: float) -> bool:
        """Whether the connection sent too much since it was looked at before, or since it began."""
        before = self._before.get((server, cid))
        if before is None or sent.at - before.at >= OVER_S:
            self._before[server, cid] = sent
        before = before or Sent(0, 0, since)
        share = max(1.0, (sent.at - before.at) / OVER_S)
        return (
            sent.messages - before.messages > MOST_MESSAGES * share or sent.octets - before.octets > MOST_BYTES * share
        )

    def forget(self, server: str, now: float) -> None:
        """Connections of the server that were not looked at for long are gone."""
        for key, sent in list(self._before.items()):
            if key[0] == server and now - sent.at > FORGOTTEN_AFTER_S:
                del self._before[key]

    def keep_out(self, account: str, peer: str, now: float) -> None:
        self._kept_out[account, peer] = now + KEPT_OUT_S

    def is_kept_out(self, account: str, peer: str, now: float) -> bool:
        if self._kept_out.get((account, peer), now) <= now:
            self._kept_out.pop((account, peer), None)
            return False
        return True
