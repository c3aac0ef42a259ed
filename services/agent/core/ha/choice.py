"""Which routing peer carries an HA group: candidates × incumbent × memory × now → who, why, and when to look again.

A candidate is better than another by, in this order: it is usable, it is not draining, it holds the return address of
the route, it has an agent, its metric, a direct path, its latency (decision G1). From an incumbent that is usable only
what is worth it moves anything, and only after a while, see `_due`.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec

from services.agent.core.ha.marks import FAILBACK_S, Mark, damping, marked, settled_at
from services.agent.core.ha.standing import Candidate, Health, Ranked, State

NEARER_US = 20_000
"""By more than this a path has to be shorter to be worth a move among equals (G1), and by more than single round trips
differ: a standby is asked once a second, so at 100 ms of jitter its smoothed value strays for seconds by more than
20 ms. In 4,000 minutes of such jitter, drawn at random, that moved a host 783 times, and with the spread never."""

SILENT_S = 10.0
"""How long an incumbent without an answer is kept when nobody else is usable, while WireGuard has a session with it. A
gateway without a second one that is away for a moment shall not close routes and open them again: connections would
break that only had to wait."""

Cause: TypeAlias = Literal[
    "", "first", "back", "gone", "lost", "down", "withdrawn", "drain", "holder", "metric", "path", "latency"
]
"""Why it became another one. first: there was none. back: nobody was usable. gone: no candidate any more. "": it did
not."""

CAUSES = tuple(filter(None, get_args(Cause)))

LEFT: Mapping[Cause, str] = {
    "gone": "the one before is no routing peer of it any more",
    "lost": "the one before lost its WireGuard session",
    "down": "the one before does not answer",
    "drain": "the one before is draining",
    "holder": "it holds the return address",
    "path": "it is reached directly",
    "back": "it is usable again, and nobody was",
    "first": "the best one when it was first looked at",
}


class Memory(msgspec.Struct, frozen=True):
    """What was seen of the candidates so far. at: monotonic seconds of the last look. incumbent: that `nearer_since` of
    the marks refers to. carried: whether anybody ever carried the group."""

    at: float = 0.0
    incumbent: str = ""
    carried: bool = False
    marks: Mapping[str, Mark] = {}


class Chosen(NamedTuple):
    """peer_id: "" for nobody. cause: of the change, "" without one. reason: of the change, for people. is_silent: it is
    kept although it does not answer. ranked: all candidates, the chosen one first. next_deadline: monotonic seconds."""

    peer_id: str
    cause: Cause
    reason: str
    is_silent: bool
    ranked: tuple[Ranked, ...]
    memory: Memory
    next_deadline: float | None


def choose(candidates: Iterable[Candidate], incumbent: str, memory: Memory, now: float) -> Chosen:
    """The routing peer to use. incumbent: peer id, "" for nobody. now: monotonic seconds; of a clock that went back the
    former time counts."""
    now = max(now, memory.at)
    by_id = {one.peer_id: one for one in candidates}
    sitting = by_id.get(incumbent)
    marks = {
        one.peer_id: marked(memory.marks.get(one.peer_id), one, nearer=_is_nearer(one, sitting), now=now)
        for one in by_id.values()
    }
    if memory.incumbent != incumbent:
        marks = {peer_id: mark.nearer_from(now) for peer_id, mark in marks.items()}
    usable = [one for one in by_id.values() if one.usable]
    best, deadlines, is_silent = min(usable, key=_order, default=None), _decays(marks, now), False
    if sitting is None:
        cause: Cause = "gone" if incumbent else "back" if memory.carried else "first"
    elif sitting.usable:
        due = _dues(usable, sitting, marks, now)
        ready = [by_id[peer_id] for peer_id, (_, at) in due.items() if at <= now]
        best = min(ready, key=_order, default=sitting)
        cause = due[best.peer_id][0] if best is not sitting else ""
    else:
        cause = _why_left(sitting)
        silent_until = (marks[sitting.peer_id].silent_since or now) + SILENT_S
        if best is None and cause == "down" and now < silent_until:
            best, cause, is_silent = sitting, "", True
            deadlines.append(silent_until)
    chosen = best.peer_id if best is not None else ""
    if chosen == incumbent:
        cause = ""
    else:
        marks = {one.peer_id: _towards(marks[one.peer_id], one, best, now) for one in by_id.values()}
    if best is not None and best.usable:
        deadlines += [at for _, at in _dues(usable, best, marks, now).values() if now < at < NEVER]
    return Chosen(
        chosen,
        cause,
        _reason(cause, best, sitting, marks.get(chosen), now),
        is_silent,
        _ranked(by_id, chosen, marks, now),
        Memory(now, chosen, memory.carried or bool(chosen or incumbent), marks),
        min(deadlines, default=None),
    )


NEVER = float("inf")


def _grade(one: Candidate) -> int:
    """Who is about to stop comes after who has no agent any more, and either after all others.

    Who holds the return address may be without an agent: nobody takes it from a kernel that answers for it, and answers
    come from there.
    """
    return 2 if one.draining else int(one.agentless and not one.holds)


def _order(one: Candidate) -> tuple[bool, int, bool, int, bool, bool, float, str]:
    """Lowest first."""
    rtt_s = one.rtt_s or NEVER
    place = (not one.usable, _grade(one), not one.holds, one.metric, one.relayed)
    return *place, one.verdict != "up", rtt_s, one.peer_id


def _dues(
    usable: Iterable[Candidate], sitting: Candidate, marks: Mapping[str, Mark], now: float
) -> dict[str, tuple[Cause, float]]:
    """Peer id of each other usable candidate → why and when it takes over."""
    return {one.peer_id: _due(one, sitting, marks[one.peer_id], now) for one in usable if one is not sitting}


def _due(one: Candidate, sitting: Candidate, mark: Mark, now: float) -> tuple[Cause, float]:
    """Why and when a usable candidate takes over from an incumbent that is usable; NEVER if it is no better.

    An incumbent without an agent is not left for that: its kernel carries, and a move would cost connections. At once
    from one that drains, and to the holder of the return address, since answers come from there. Else after it was good
    for a while (G4): it answers, or, where the incumbent's answers have not been heard either, it is there.
    """
    settled = settled_at(mark, heard=one.verdict == "up", unheard=sitting.verdict == "unknown", now=now)
    ours, theirs = _grade(sitting), _grade(one)
    if theirs < ours and sitting.draining:
        return "drain", now
    if theirs > ours:
        return "", NEVER
    if one.holds != sitting.holds:
        return "holder", now if one.holds else NEVER
    if one.metric != sitting.metric:
        return "metric", settled if one.metric < sitting.metric else NEVER
    if one.relayed != sitting.relayed:
        return "path", settled if sitting.relayed else NEVER
    since = mark.nearer_since
    return "latency", NEVER if since is None else max(settled, since + FAILBACK_S)


def is_nearer(one: Candidate | Health, other: Candidate | Health) -> bool:
    """Whether a path is shorter than another by what is worth a move; one that was not measured never is."""
    if not (one.rtt_s and other.rtt_s):
        return False
    return round((other.rtt_s - one.rtt_s - other.spread_s - one.spread_s) * 1e6) > NEARER_US


def _is_nearer(one: Candidate, sitting: Candidate | None) -> bool:
    return sitting is not None and one.usable and is_nearer(one, sitting)


def _towards(mark: Mark, one: Candidate, best: Candidate | None, now: float) -> Mark:
    """The mark as the next incumbent makes it."""
    return mark.nearer(_is_nearer(one, best), since=now)


def _why_left(sitting: Candidate) -> Cause:
    if sitting.withdrawn:
        return "withdrawn"
    return "down" if sitting.connected else "lost"


def _reason(cause: Cause, best: Candidate | None, sitting: Candidate | None, mark: Mark | None, now: float) -> str:
    if cause == "withdrawn" and sitting is not None:
        reason = f"the one before withdrew: {sitting.withdrawn}"
    elif cause == "metric" and sitting is not None and best is not None:
        reason = f"metric {best.metric} instead of {sitting.metric}"
    elif cause == "latency" and sitting is not None and best is not None:
        reason = f"{best.rtt_s * 1000:.0f} ms instead of {sitting.rtt_s * 1000:.0f} ms"
    else:
        reason = LEFT.get(cause, "")
    if best is None:
        return f"{reason}, and no other is usable" if sitting is not None or cause == "gone" else "none is usable"
    wait = damping(mark, now) if mark else ""
    return f"{reason}, {wait}" if wait and cause in ("metric", "path", "latency") else reason


def _ranked(by_id: Mapping[str, Candidate], chosen: str, marks: Mapping[str, Mark], now: float) -> tuple[Ranked, ...]:
    ranked, spare = [], True
    for one in sorted(by_id.values(), key=lambda one: (one.peer_id != chosen, _order(one))):
        state, why = _state(one, marks[one.peer_id], now)
        if one.peer_id == chosen:
            why = why or ("" if state == "ready" else state)
            state = "in use"
        elif state == "ready" and spare:
            state, spare = "standby", False
        ranked.append(Ranked(one.peer_id, state, why))
    return tuple(ranked)


def _state(one: Candidate, mark: Mark, now: float) -> tuple[State, str]:
    if one.withdrawn:
        return "withdrawn", one.withdrawn
    if not one.connected:
        return "no session", ""
    if one.verdict == "down":
        return "down", "it does not answer"
    if one.draining:
        return "draining", ""
    if one.agentless:
        return "no agent", ""
    wait = damping(mark, now)
    return ("damped", wait) if wait else ("ready", "")


def _decays(marks: Mapping[str, Mark], now: float) -> list[float]:
    """When people see another state although nothing happened."""
    return [at for mark in marks.values() if (at := mark.decays_at(now)) is not None]
