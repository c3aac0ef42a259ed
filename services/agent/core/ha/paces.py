"""How often routing peers are asked, and what of the answers is worth telling."""

from collections.abc import Mapping

from services.agent.core.ha.probing import Target, Targets
from services.agent.core.ha.standing import Health, Probed

CARRYING_S, STANDBY_S, IDLE_S = 0.2, 1.0, 5.0
"""Between two questions to a routing peer that carries packets, to a standby while any does, and while none does."""

TOLD_RTT_S, TOLD_RTT_SHARE, TOLD_LOSS = 0.001, 0.1, 0.02
"""Too little to be told: round trip times that differ by less than 1 ms or a tenth, and loss by less than 2 %."""


def targets(probed: Mapping[str, Probed], connected: frozenset[str], carrying: frozenset[str]) -> Targets:
    """Whom to ask: peer id → target, for those with a session of WireGuard.

    connected: public keys. carrying: peer ids.
    """
    busy = any(one.role == "in use" and peer_id in carrying for peer_id, one in probed.items())
    return {
        peer_id: Target(one.address, _pace_s(one, carries=peer_id in carrying, busy=busy))
        for peer_id, one in probed.items()
        if one.public_key in connected
    }


def _pace_s(one: Probed, *, carries: bool, busy: bool) -> float:
    if one.role == "in use":
        return CARRYING_S if carries else IDLE_S
    return STANDBY_S if busy else IDLE_S


def is_urgent(told: Mapping[str, Health], now: Mapping[str, Health]) -> bool:
    """Whether others shall know at once: of another verdict, or of others that are asked."""
    return {key: one.verdict for key, one in told.items()} != {key: one.verdict for key, one in now.items()}


def is_news(told: Mapping[str, Health], now: Mapping[str, Health]) -> bool:
    """Whether round trip times or loss are visibly other ones, of the same routing peers."""
    return any(_differs(told[key], one) for key, one in now.items())


def _differs(one: Health, other: Health) -> bool:
    rtt_s = abs(one.rtt_s - other.rtt_s)
    return rtt_s > max(TOLD_RTT_S, TOLD_RTT_SHARE * one.rtt_s) or abs(one.loss - other.loss) >= TOLD_LOSS
