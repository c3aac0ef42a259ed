"""What is remembered of one candidate of an HA group: since when it is good, and how often it fell."""

import msgspec
from msgspec.structs import replace

from services.agent.core.ha.standing import Candidate

FAILBACK_S = 3.0
"""How long a candidate has to be good before an incumbent that is usable is left for it (G1, G4)."""

FALLS = 3
WITHIN_S = 60.0
LIMIT_S = 60.0
"""Who falls FALLS times within WITHIN_S, and each time after, waits twice as long as before, up to LIMIT_S; each
WITHIN_S without a fall halve it again."""
MOST = 5
"""Doublings that make LIMIT_S out of FAILBACK_S."""


class Mark(msgspec.Struct, frozen=True):
    """Times are monotonic seconds, None where it is not so.

    usable_since, heard_since: that it is usable, and answers as well. nearer_since: that its path is shorter than the
    incumbent's. silent_since: that it does not answer. falls: the last ones. doublings: as of the last fall.
    """

    public_key: str
    usable_since: float | None = None
    heard_since: float | None = None
    nearer_since: float | None = None
    silent_since: float | None = None
    falls: tuple[float, ...] = ()
    doublings: int = 0

    def nearer(self, is_nearer: bool, since: float) -> "Mark":
        at = since if is_nearer else None
        return self if self.nearer_since == at else replace(self, nearer_since=at)

    def nearer_from(self, now: float) -> "Mark":
        """The incumbent is another one since now."""
        return self.nearer(self.nearer_since is not None, now)

    def doubled(self, now: float) -> int:
        """How often the wait is doubled by now."""
        return max(0, self.doublings - _spans(self.falls[-1], now)) if self.falls else 0

    def decays_at(self, now: float) -> float | None:
        """When it is doubled once less than now."""
        if not self.doubled(now):
            return None
        return self.falls[-1] + WITHIN_S * (1 + _spans(self.falls[-1], now))


def marked(former: Mark | None, one: Candidate, *, nearer: bool, now: float) -> Mark:
    """The mark of a candidate as it stands now. A candidate with another key is another one."""
    mark = former if former is not None and former.public_key == one.public_key else Mark(one.public_key)
    falls, doublings = mark.falls, mark.doublings
    if mark.usable_since is not None and not one.usable:
        falls = (*(at for at in falls if now - at < WITHIN_S), now)[-FALLS:]
        doublings = min(MOST, mark.doubled(now) + (len(falls) == FALLS))
    found = Mark(
        one.public_key,
        _since(mark.usable_since, one.usable, now),
        _since(mark.heard_since, one.usable and one.verdict == "up", now),
        _since(mark.nearer_since, nearer, now),
        _since(mark.silent_since, one.verdict == "down", now),
        falls,
        doublings,
    )
    return mark if found == mark else found


def settled_at(mark: Mark, *, heard: bool, unheard: bool, now: float) -> float:
    """When the candidate has been good for as long as it has to be; or sooner, when that becomes shorter.

    heard: it answers. unheard: neither has the incumbent been heard, so that being there is enough.
    """
    since = mark.heard_since if heard else mark.usable_since if unheard else None
    if since is None:
        return float("inf")
    at, shorter_at = since + wait_s(mark, now), mark.decays_at(now)
    return at if at <= now or shorter_at is None else min(at, shorter_at)


def wait_s(mark: Mark, now: float) -> float:
    """How long it has to be good."""
    return min(LIMIT_S, FAILBACK_S * (1 << mark.doubled(now)))


def damping(mark: Mark, now: float) -> str:
    """Why it waits longer than others, "" if it does not."""
    if not mark.doubled(now):
        return ""
    return f"after {wait_s(mark, now):.0f} s, since it fell {FALLS} times within a minute"


def _spans(since: float, now: float) -> int:
    """How many times WITHIN_S went by, counted so that the end of the next one is later than now."""
    spans = int((now - since) // WITHIN_S)
    return spans + 1 if since + WITHIN_S * (spans + 1) <= now else spans


def _since(former: float | None, holds: bool, now: float) -> float | None:
    return (now if former is None else former) if holds else None
