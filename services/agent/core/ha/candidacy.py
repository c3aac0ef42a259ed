"""Whether this host can carry each route it serves, and why not, judged from what its kernel says (decision G3).

What could not be asked is no reason: a host withdraws only what it knows that it cannot carry.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

from services.agent.core.ha.leading import Leading
from services.agent.core.ha.standing import Verdict
from services.agent.core.reconcile.sysctls import FORWARD_V4, FORWARD_V6, forwarding_of
from services.agent.core.routing.following import Answer
from shared.events.documents import Probe

DeviceState: TypeAlias = Literal["up", "down", "gone"]
Cause: TypeAlias = Literal["device", "ruleset", "forwarding", "way", "probe"]

REFUSALS = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EXDEV}
"""What the kernel says of packets that it would not forward: no route or an unreachable one, a prohibiting one, a
black hole, a source that it takes for forged. Anything else says that the question itself failed."""

REPAIRED_WITHIN_S = 0.25
"""Forwarding that others switch off is on again after a pass of the loop: nobody shall move for that."""


class Reason(msgspec.Struct, frozen=True):
    """Why a route is withdrawn. text: one line for people."""

    cause: Cause
    text: str


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now. overlay: name of our interface; device: how it is; trouble: what the loop says of it.

    ruleset: why nftables did not take the table, "" when it did. settings: path → value. answers: address → what the
    kernel would do with a packet to it out of the tunnel. probes: what is known of targets. What is missing could not
    be asked. unrepaired: forwarding is off and the loop cannot switch it on.
    """

    overlay: str
    device: DeviceState = "up"
    trouble: str = ""
    ruleset: str = ""
    settings: Mapping[str, str] = {}
    answers: Mapping[str, Answer] = {}
    probes: Mapping[Probe, Verdict] = {}
    unrepaired: bool = False


class Candidacy:
    """Judges look by look. ways: network → the device by which it had a way of its own, in this run or the last."""

    def __init__(self, ways: Mapping[str, str]) -> None:
        self.ways = ways
        self._off_since: float | None = None
        self._waits = False

    def judge(
        self, routes: Iterable[Leading], asked: Mapping[str, tuple[str, ...]], seen: Seen, now: float
    ) -> dict[str, Reason]:
        """Route id → why this host cannot carry it now. asked: as `questions` gave it. now: monotonic seconds."""
        is_off = False
        found, ways = dict[str, Reason](), dict[str, str]()
        for one in routes:
            answers = [seen.answers[address] for address in asked[one.route_id] if address in seen.answers]
            network = str(one.networks[0]) if len(one.networks) == 1 and not one.by_name else ""
            was_by = self.ways.get(network, "")
            own = next((answer.device for answer in answers if _is_own(answer, seen)), was_by)
            if network and own:
                ways[network] = own
            off = _forwarding(one, answers, seen)
            is_off = is_off or bool(off)
            if reason := _everything(seen) or off or _way(one, answers, was_by, seen) or _probe(one, seen):
                found[one.route_id] = reason
        self.ways = ways
        if not self._counts(is_off, seen, now):
            return {route_id: reason for route_id, reason in found.items() if reason.cause != "forwarding"}
        return found

    def look_again_at(self) -> float | None:
        """When forwarding that is off counts, if nothing is told before; monotonic seconds."""
        return self._off_since + REPAIRED_WITHIN_S if self._off_since is not None and self._waits else None

    def _counts(self, is_off: bool, seen: Seen, now: float) -> bool:
        if not is_off:
            self._off_since = None
        elif self._off_since is None:
            self._off_since = now
        since = now if self._off_since is None else self._off_since
        self._waits = is_off and not seen.unrepaired and now < since + REPAIRED_WITHIN_S
        return not self._waits


def _everything(seen: Seen) -> Reason | None:
    if seen.device != "up":
        text = f"there is no {seen.overlay}, the WireGuard device"
        return Reason("device", text if seen.device == "gone" else f"{seen.overlay}, the WireGuard device, is down")
    if seen.trouble:
        return Reason("device", f"the WireGuard device does not work: {seen.trouble}")
    return Reason("ruleset", f"nftables does not take the table: {seen.ruleset}") if seen.ruleset else None


def _forwarding(one: Leading, answers: Iterable[Answer], seen: Seen) -> Reason | None:
    """Off for each family that the route leads to: names that have addresses of both are carried by either."""
    switches = {FORWARD_V4 if network.version == 4 else FORWARD_V6 for network in one.networks}
    off = [path for path in sorted(switches) if seen.settings.get(path) == "0"]
    if len(off) < len(switches) or not off:
        off = (
            [path for path in _passed(answers, seen) if seen.settings.get(path) == "0"]
            if FORWARD_V4 in switches
            else []
        )
    return Reason("forwarding", f"forwarding is off: sysctl -w {off[0]}=1") if off else None


def _passed(answers: Iterable[Answer], seen: Seen) -> Iterator[str]:
    """IPv4 settings of the interfaces that packets and what comes back come in by."""
    yield forwarding_of(seen.overlay)
    for answer in answers:
        if _carries(answer, seen) and answer.device:
            yield forwarding_of(answer.device)


def _way(one: Leading, answers: list[Answer], was_by: str, seen: Seen) -> Reason | None:
    if not answers or any(answer.refused and answer.errno not in REFUSALS for answer in answers):
        return None
    if not any(_carries(answer, seen) for answer in answers):
        return Reason("way", _why_not(answers[0], was_by, seen))
    if not was_by or any(_is_own(answer, seen) for answer in answers) or _verdict(one, seen) == "up":
        return None
    return Reason("way", f"its own route into the network, by {was_by}, is gone: only the default route is left")


def _why_not(answer: Answer, was_by: str, seen: Seen) -> str:
    if answer.device == seen.overlay:
        return f"the way there leads back into {seen.overlay}"
    if answer.link != "up":
        return f"{answer.device} has no carrier" if answer.link == "no carrier" else f"{answer.device} is down"
    return f"the kernel has no way there ({answer.refused})" + (f", it was by {was_by}" if was_by else "")


def _probe(one: Leading, seen: Seen) -> Reason | None:
    if one.probe is None or _verdict(one, seen) != "down":
        return None
    what = f"{one.probe.address}, port {one.probe.port}" if one.probe.kind == "tcp" else one.probe.address
    return Reason("probe", f"the probe target is silent: {one.probe.kind} {what}")


def _verdict(one: Leading, seen: Seen) -> Verdict:
    return seen.probes.get(one.probe, "unknown") if one.probe else "unknown"


def _carries(answer: Answer, seen: Seen) -> bool:
    return not answer.refused and answer.link == "up" and answer.device != seen.overlay


def _is_own(answer: Answer, seen: Seen) -> bool:
    """Whether it is the host's own way there and not only its default route."""
    return _carries(answer, seen) and not answer.prefix.endswith("/0")
