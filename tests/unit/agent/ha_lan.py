"""A LAN with routing peers that share a return address, and the bus beside it, in virtual time.

Kernels answer at once; a request to management takes `bus_s` each way, and management is services/management's own
decision. Whoever is in one part of the LAN hears everybody else there.
"""

from collections.abc import Callable, Iterable

from services.agent.core.ha.holding import ANEW, Announce, Ask, Holding, Wish
from services.agent.holding import CHANGE_WITHIN_S
from services.management.core.leases import NOBODY, decide, told
from shared.events.signals import LEASE_ANSWER_WITHIN_S, Lease, LeaseRequest

STEP_S = 0.01
CLIENTS_EVERY_S = 0.02


WATCH_WITHIN_S = CHANGE_WITHIN_S + LEASE_ANSWER_WITHIN_S
"""How long the shell waits for an answer to a watch."""


class Gateway:
    """name: its peer id, and its MAC. kernel: whether the machine is on. agent: whether the agent runs, not frozen.

    bus: whether it reaches management. unaware: of that it does not, while no request has run out of time. part: of
    the LAN. able: as candidacy says. leaving: it is drained.
    """

    def __init__(self, name: str, betters: frozenset[str]) -> None:
        self.name = name
        self.betters = betters
        self.kernel = self.agent = self.bus = self.able = True
        self.leaving = self.unaware = self.lost = False
        self.part = 0
        self.has_address = False
        self.received = self.sent_by_clients = 0
        self.holding = Holding(name, 0.0)
        self.pending: Wish | None = None
        self.asked_at = 0.0

    @property
    def answers(self) -> bool:
        return self.kernel and self.has_address


class World:
    """names: ids of the gateways, by rank. takes: who took the address, in order.

    clients: the gateways that clients send through, a packet each CLIENTS_EVERY_S.
    """

    def __init__(self, names: Iterable[str], bus_s: float = 0.01) -> None:
        ranked = tuple(names)
        self.gateways = {name: Gateway(name, frozenset(ranked[:place])) for place, name in enumerate(ranked)}
        self.bus_s = bus_s
        self.now = 0.0
        self.lease, self.number = NOBODY, 0
        self.takes: list[str] = []
        self.clients: tuple[str, ...] = ()
        self._sent_at = 0.0
        self.on_step: Callable[[], None] = lambda: None
        self._post: list[tuple[float, Callable[[], None]]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - STEP_S / 2:
            self.now = round(self.now + STEP_S, 6)
            due = [deliver for at, deliver in self._post if at <= self.now]
            self._post = [(at, deliver) for at, deliver in self._post if at > self.now]
            for deliver in due:
                deliver()
            if self.now >= self._sent_at + CLIENTS_EVERY_S:
                self._sent_at = self.now
                for name in self.clients:
                    self.gateways[name].sent_by_clients += 1
            for gateway in self.gateways.values():
                if gateway.kernel and gateway.agent:
                    self._step(gateway)
            self.on_step()

    def holders(self) -> list[str]:
        """Whose kernels answer for the address."""
        return [gateway.name for gateway in self.gateways.values() if gateway.answers]

    def off(self, name: str) -> None:
        """The machine loses its power."""
        gateway = self.gateways[name]
        gateway.kernel = gateway.has_address = False

    def boots(self, name: str) -> None:
        gateway = self.gateways[name]
        gateway.kernel = gateway.agent = True
        self.restarts(name)

    def restarts(self, name: str) -> None:
        """The agent begins anew; its kernel is as it was."""
        gateway = self.gateways[name]
        gateway.agent, gateway.pending = True, None
        gateway.holding = Holding(name, self.now, adopted=gateway.has_address)

    def _step(self, gateway: Gateway) -> None:
        holding, now = gateway.holding, self.now
        holding.candidate(gateway.able, gateway.betters, now, leaving=gateway.leaving)
        holding.present(gateway.has_address, now)
        holding.used(gateway.sent_by_clients, now)
        holding.received(gateway.received, now)
        if holding.next_deadline() <= now:
            holding.advance(now)
        self._kernel_follows(gateway)
        for action in holding.take():
            match action:
                case Ask():
                    self._broadcast(gateway)
                    if answering := [other for other in self._neighbours(gateway) if other.answers]:
                        gateway.received += 1
                        holding.received(gateway.received, now)
                        holding.answered(answering[0].name, now)
                case Announce():
                    self._broadcast(gateway)
                    for other in self._neighbours(gateway):
                        if other.agent and gateway.answers:
                            other.holding.answered(gateway.name, now)
        self._ask_management(gateway)

    def _kernel_follows(self, gateway: Gateway) -> None:
        if gateway.holding.holds and not gateway.has_address:
            self.takes.append(gateway.name)
        gateway.has_address = gateway.holding.holds
        gateway.holding.present(gateway.has_address, self.now)

    def _broadcast(self, sender: Gateway) -> None:
        for other in self._neighbours(sender):
            other.received += 1

    def _neighbours(self, gateway: Gateway) -> list[Gateway]:
        return [
            other
            for other in self.gateways.values()
            if other is not gateway and other.kernel and other.part == gateway.part
        ]

    def _ask_management(self, gateway: Gateway) -> None:
        if gateway.unaware:
            self._ask_in_vain(gateway)
            return
        if not gateway.bus:
            gateway.holding.told(None, self.now)
            gateway.pending = None
            return
        if gateway.lost and self.now >= gateway.asked_at + WATCH_WITHIN_S:
            gateway.pending, gateway.lost = None, False
            gateway.holding.told(None, self.now)
        wish = gateway.holding.wish()
        if gateway.pending is not None and (gateway.pending.wish != "watch" or wish.wish == "watch"):
            if gateway.pending.wish == wish.wish == "watch" and gateway.pending.known != wish.known:
                gateway.pending = None
            else:
                return
        gateway.pending, gateway.asked_at, gateway.lost = wish, self.now, False
        request = LeaseRequest(
            route_id="lan",
            wish=wish.wish,
            known=wish.known,
            preferred=wish.preferred,
            hears=wish.hears,
            used_s=wish.used_s,
        )
        self._post.append((self.now + self.bus_s, lambda: self._at_management(gateway, wish, request)))

    def _ask_in_vain(self, gateway: Gateway) -> None:
        """What is asked is answered by nobody, until the time for it has run out."""
        wish = gateway.holding.wish()
        if gateway.pending is None or (gateway.pending.wish, gateway.pending.known) != (wish.wish, wish.known):
            gateway.pending, gateway.asked_at = wish, self.now
        waits = wish.wish == "watch" and wish.known != ANEW
        if self.now >= gateway.asked_at + (WATCH_WITHIN_S if waits else CHANGE_WITHIN_S):
            gateway.pending, gateway.asked_at = None, self.now
            gateway.holding.told(None, self.now)

    def _at_management(self, gateway: Gateway, wish: Wish, request: LeaseRequest) -> None:
        if not gateway.bus:
            gateway.lost = True  # which it finds out when its time has run out, frozen or not
            return
        after = decide(request, gateway.name, self.lease, self.number, 0.0)
        if after is not None:
            self.lease, self.number = after, self.number + 1
        if request.wish == "watch" and request.known == self.number:
            if gateway.pending is wish:  # it waits for news
                self._post.append((self.now + STEP_S, lambda: self._at_management(gateway, wish, request)))
            return
        self._post.append((self.now + self.bus_s, lambda: self._answered(gateway, wish, self._told())))

    def _told(self) -> Lease:
        return told(self.lease, self.number)

    def _answered(self, gateway: Gateway, wish: Wish, lease: Lease) -> None:
        if gateway.pending is not wish or not gateway.bus or not gateway.kernel:
            return
        if not gateway.agent:  # it is read once the agent goes on
            self._post.append((self.now + STEP_S, lambda: self._answered(gateway, wish, lease)))
        else:
            gateway.pending = None
            gateway.holding.told(lease, self.now)
