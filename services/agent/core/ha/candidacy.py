"""Whether this host can carry each route it serves, and why not, judged from what its kernel says (decision G3).

What could not be asked is no reason: a host withdraws only what it knows that it cannot carry.
"""

import errno
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

from services.agent.core.ha.leading import Leading
from services.agent.core.ha.standing import Verdict
from services.agent.core.ha.targets import verdict_of
from services.agent.core.reconcile.sysctls import FORWARD_V4, FORWARD_V6, forwarding_of
from services.agent.core.routing.following import Answer

DeviceState: TypeAlias = Literal["up", "down", "gone"]
Cause: TypeAlias = Literal["device", "ruleset", "forwarding", "way", "probe"]

REFUSALS = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EXDEV}
"""What the kernel says of packets that it would not forward: no route or an unreachable one, a prohibiting one, a
black hole, a source that it takes for forged. Anything else says that the question itself failed."""

BELIEVED_AFTER_S = 1.0
"""A silent probe target is down after 0.8 s (line.py)."""

DEFAULT = "only the default route leads there"
LOST = "the route into the network is gone, and only the default route is left"

REPAIRED_WITHIN_S = 0.25
"""Forwarding and the device are back after a pass of the loop: nobody shall move, and lose connections, for that."""


class Reason(msgspec.Struct, frozen=True):
    """Why a route is withdrawn. text: one line for people. is_repaired: the loop is about to."""

    cause: Cause
    text: str
    is_repaired: bool = False


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now. overlay: name of our interface; device: how it is; trouble: what the loop says of it.

    ruleset: why nftables did not take the table, "" when it did. settings: path → value. answers: address → what the
    kernel would do with a packet to it out of the tunnel. targets: what is known of probe targets. What is missing
    could not be asked. unrepaired: forwarding is off and the loop cannot switch it on.
    """

    overlay: str
    device: DeviceState = "up"
    trouble: str = ""
    ruleset: str = ""
    settings: Mapping[str, str] = {}
    answers: Mapping[str, Answer] = {}
    targets: Mapping[str, Verdict] = {}
    unrepaired: bool = False


class Candidacy:
    """Judges look by look. ways: network → the device by which it had a way of its own, in this run or the last."""

    def __init__(self, ways: Mapping[str, str]) -> None:
        self.ways = ways
        self._broken_since: float | None = None
        self._found: dict[str, Reason] = {}
        self._lost: dict[str, float] = {}
        self._again: list[float] = []

    def judge(
        self, routes: Iterable[Leading], asked: Mapping[str, tuple[str, ...]], seen: Seen, now: float
    ) -> dict[str, Reason]:
        """Route id → why this host cannot carry it now. asked: as `questions` gave it. now: monotonic seconds."""
        self._again = []
        found, ways = dict[str, Reason](), dict[str, str]()
        for one in routes:
            answers = [seen.answers[address] for address in asked[one.route_id] if address in seen.answers]
            was_by = self.ways.get(one.network, "")
            own = next((answer.device for answer in answers if _is_own(answer, seen)), was_by)
            way = _way(answers, seen)
            if was_by and way == DEFAULT:
                own, way = self._lost_way(one, was_by, seen, now)
            else:
                self._lost.pop(one.network, None)
            if one.network and own:
                ways[one.network] = own
            reason = _everything(seen) or _forwarding(one, answers, seen) or _named(way, was_by) or _probe(one, seen)
            if reason:
                found[one.route_id] = reason
        self.ways = ways
        self._lost = {network: since for network, since in self._lost.items() if network in ways}
        self._found = self._in_time(found, now)
        return self._found

    def look_again_at(self) -> float | None:
        """When the judgement may be another one although nothing is told; monotonic seconds."""
        return min(self._again, default=None)

    def _lost_way(self, one: Leading, was_by: str, seen: Seen, now: float) -> tuple[str, str]:
        """The way that is remembered from now on, and what is wrong: only the default route is left.

        A probe target that has gone on answering for longer than its silence goes unnoticed is behind that one.
        """
        since = self._lost.setdefault(one.network, now)
        if _verdict(one, seen) != "up":
            return was_by, LOST
        if now >= since + BELIEVED_AFTER_S:
            del self._lost[one.network]
            return "", ""
        self._again.append(since + BELIEVED_AFTER_S)
        return was_by, LOST

    def _in_time(self, found: dict[str, Reason], now: float) -> dict[str, Reason]:
        """What is about to be repaired changes nothing for now."""
        if not any(reason.is_repaired for reason in found.values()):
            self._broken_since = None
            return found
        if self._broken_since is None:
            self._broken_since = now
        if now >= self._broken_since + REPAIRED_WITHIN_S:
            return found
        self._again.append(self._broken_since + REPAIRED_WITHIN_S)
        told = ((route_id, self._found.get(route_id) if one.is_repaired else one) for route_id, one in found.items())
        return {route_id: reason for route_id, reason in told if reason is not None}


def _everything(seen: Seen) -> Reason | None:
    if seen.trouble:
        return Reason("device", f"the WireGuard device does not work: {seen.trouble}")
    if seen.device != "up":
        text = f"there is no {seen.overlay}, the WireGuard device"
        text = text if seen.device == "gone" else f"{seen.overlay}, the WireGuard device, is down"
        return Reason("device", text, is_repaired=True)
    return Reason("ruleset", f"nftables does not take the table: {seen.ruleset}") if seen.ruleset else None


def _forwarding(one: Leading, answers: Iterable[Answer], seen: Seen) -> Reason | None:
    """Off for each family that the route leads to, and for each leg: names may have addresses of both, and by several.

    What comes back comes in by the leg, and what goes there by the overlay's interface.
    """
    switches = {FORWARD_V4 if network.version == 4 else FORWARD_V6 for network in one.networks}
    off = _off(switches, seen)
    if FORWARD_V4 in switches and not off:
        legs = {forwarding_of(answer.device) for answer in answers if _carries(answer, seen)}
        off = _off({forwarding_of(seen.overlay)}, seen) or _off(legs, seen)
    return (
        Reason("forwarding", f"forwarding is off: sysctl -w {off}=1", is_repaired=not seen.unrepaired) if off else None
    )


def _off(paths: Collection[str], seen: Seen) -> str:
    """One of these settings, "" unless all of them are 0."""
    return min(paths, default="") if all(seen.settings.get(path) == "0" for path in paths) else ""


def _way(answers: list[Answer], seen: Seen) -> str:
    """What is wrong with the way there, "" when nothing is; DEFAULT when only the default route leads there."""
    if not answers or any(answer.refused and answer.errno not in REFUSALS for answer in answers):
        return ""
    if any(_is_own(answer, seen) for answer in answers):
        return ""
    if any(_carries(answer, seen) for answer in answers):
        return DEFAULT
    answer = answers[0]
    if answer.refused:
        return f"the kernel has no way there ({answer.refused})"
    if answer.device == seen.overlay:
        return f"the way there leads back into {seen.overlay}"
    return f"{answer.device} has no carrier" if answer.link == "no carrier" else f"{answer.device} is down"


def _named(way: str, was_by: str) -> Reason | None:
    """was_by: the device of the way that there was, "" for none."""
    if way in ("", DEFAULT):
        return None
    return Reason("way", f"{way}; it was by {was_by}" if was_by and was_by not in way.split() else way)


def _probe(one: Leading, seen: Seen) -> Reason | None:
    if one.probe is None or _verdict(one, seen) != "down":
        return None
    what = f"{one.probe.address}, port {one.probe.port}" if one.probe.kind == "tcp" else one.probe.address
    return Reason("probe", f"the probe target is silent: {one.probe.kind} {what}")


def _verdict(one: Leading, seen: Seen) -> Verdict:
    return verdict_of(one.probe, seen.targets) if one.probe else "unknown"


def _carries(answer: Answer, seen: Seen) -> bool:
    return not answer.refused and answer.link == "up" and answer.device != seen.overlay


def _is_own(answer: Answer, seen: Seen) -> bool:
    """Whether it is the host's own way there and not only its default route."""
    return _carries(answer, seen) and not answer.prefix.endswith("/0")
