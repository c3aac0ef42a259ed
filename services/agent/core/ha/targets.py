"""The probe targets of routes that this host serves: who is asked, how often, and what the answers amount to (G3)."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from services.agent.core.ha.probing import Target, Targets
from services.agent.core.ha.standing import Health, Verdict
from services.agent.core.intervals import Network, parse
from services.agent.core.parsed import address_of
from shared.events.documents import Probe
from shared.net.routable import unroutable

SHORTEST_MS, LONGEST_MS = 100, 60_000
PORTS = range(1, 1 << 16)

PER_SECOND = 500
"""Questions a second at most, a few percent of a core: more targets are asked less often."""

GOOD_FOR_S = 3.0
"""A target that was silent has to answer for that long before its routes are carried again (decision G4)."""

NEVER_ANSWERED_S = 2.0
"""Who was asked for that long and never answered is silent as well."""

UNTIL_KNOWN_S = 0.5
"""Between two questions before there is a verdict, so that no single lost one makes it."""


def unusable(probe: Probe, networks: Sequence[Network], overlay: Iterable[Network]) -> str:
    """Why the target is not asked, "" when it is. networks: of its route."""
    address = address_of(probe.address)
    if address is None:
        return f"its probe target {probe.address!r} is no address"
    if not any(address.version == network.version and address in network for network in networks):
        return f"its probe target {address} is not in {', '.join(map(str, networks[:1]))}"
    if reason := unroutable(parse(str(address)), overlay):
        return f"its probe target cannot be asked: {reason}"
    if probe.kind == "tcp" and probe.port not in PORTS:
        return f"its probe target {address} has no port {probe.port}"
    if not SHORTEST_MS <= probe.interval_ms <= LONGEST_MS:
        return f"its probe target cannot be asked every {probe.interval_ms} ms"
    return ""


def targets(probes: Iterable[Probe]) -> Targets:
    """Whom to ask, key → target: one that several routes have in common once, as often as the most impatient wants."""
    paces = dict[tuple[str, int], float]()
    for probe in probes:
        whom = probe.address, probe.port if probe.kind == "tcp" else 0
        paces[whom] = min(paces.get(whom, float("inf")), probe.interval_ms / 1000)
    least = len(paces) / PER_SECOND
    return {_key(*whom): Target(whom[0], max(pace, least), whom[1]) for whom, pace in paces.items()}


def until_known(asked: Targets, verdicts: Mapping[str, Verdict]) -> Targets:
    """The targets, those without a verdict asked more often where they are asked seldom."""
    pace_s = max(UNTIL_KNOWN_S, len(asked) / PER_SECOND)
    return {
        key: replace(one, pace_s=pace_s) if one.pace_s > pace_s and verdicts.get(key, "unknown") == "unknown" else one
        for key, one in asked.items()
    }


class Verdicts:
    """What is believed of targets. One that fell silent is not believed to answer before it has done so for a while."""

    def __init__(self) -> None:
        self._silent: set[str] = set()
        self._again: list[float] = []

    def judge(self, health: Mapping[str, Health], now: float) -> dict[str, Verdict]:
        """Key → verdict. health: of all that are asked. now: monotonic seconds."""
        self._silent &= health.keys()
        self._again = []
        return {key: self._one(key, one, now) for key, one in health.items()}

    def next_at(self) -> float | None:
        """When a verdict may be another one although nothing comes in."""
        return min(self._again, default=None)

    def _one(self, key: str, health: Health, now: float) -> Verdict:
        never = health.verdict == "unknown" and health.loss == 1.0 and self._has(health.since + NEVER_ANSWERED_S, now)
        if health.verdict == "down" or never:
            self._silent.add(key)
        elif health.verdict == "up" and (key not in self._silent or self._has(health.since + GOOD_FOR_S, now)):
            self._silent.discard(key)
            return "up"
        return "down" if key in self._silent else "unknown"

    def _has(self, at: float, now: float) -> bool:
        """Whether that time has come; it is waited for otherwise."""
        if now < at:
            self._again.append(at)
        return now >= at


def verdict_of(probe: Probe, verdicts: Mapping[str, Verdict]) -> Verdict:
    return verdicts.get(_key(probe.address, probe.port if probe.kind == "tcp" else 0), "unknown")


def _key(address: str, port: int) -> str:
    return f"{address} {port}"
