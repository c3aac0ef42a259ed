"""Holds return addresses in LANs: asks there and on the bus, and says which addresses this host shall have.

What follows from the answers is decided in core/ha/holding.py, one for each address; the kernel loop makes it so.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

import structlog

from services.agent.cells import Watch
from services.agent.core.documents import Documents
from services.agent.core.firewall.returned import counting
from services.agent.core.ha.holding import ANEW, USED_FOR_S, Announce, Ask, Holding, Wish
from services.agent.core.ha.returns import Return, Returning, held, returns
from services.agent.core.kernel import Count, FloatingAddress, RuleName, Ruleset
from services.agent.ports import AskManagement, LanDriver, NeighboursPort
from services.agent.situation import Addresses, Situation
from shared.bus.codec import decode, encode
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.signals import LEASE_ANSWER_WITHIN_S, Lease, LeaseRefused, LeaseReply, LeaseRequest
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

APART_S = 0.002
COUNT_EVERY_S = USED_FOR_S
"""60 us for an address."""
AGAIN_S = 0.5
"""After a request that nobody answered, how long until the next one."""
CHANGE_WITHIN_S = 0.7
"""All but a watch is answered at once, or management is not there."""

LEAVE_WITHIN_S, LOOK_EVERY_S = 0.5, 0.01

log = structlog.get_logger()

_held = Gauge("whimbrel_agent_return_addresses", "Return addresses that this host holds in LANs", registry=REGISTRY)
_taken = Counter("whimbrel_agent_return_addresses_taken", "Times that this host took one", registry=REGISTRY)


class Holdings:
    """Keeps `held`, `floating` and `returning`. lan: the host's LANs. ask: on the session of the bus there is."""

    def __init__(
        self,
        situation: Situation,
        lan: LanDriver,
        ask: AskManagement,
        account: str,
        peer_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._situation = situation
        self._lan = lan
        self._ask = ask
        self._subject = subjects.lease(account, peer_id)
        self._me = peer_id
        self._clock = clock
        self._documents: Documents | None = None
        self._addresses: Addresses | None = None
        self._known: Mapping[str, Return] = {}
        self._ruleset: Ruleset | None = None
        self._counting: Mapping[str, frozenset[RuleName]] = {}
        self._counts: Mapping[RuleName, Count] = {}
        self._count_at = 0.0
        self._ones: dict[str, _One] = {}
        self._adopted: frozenset[str] = frozenset()
        self._first_pass = situation.passed.value
        self._ends = False
        self._sessions = situation.bus.value.sessions
        self._watch = Watch(
            situation.documents,
            situation.addresses,
            situation.withdrawn,
            situation.draining,
            situation.passed,
            situation.bus,
        )

    async def begin(self) -> None:
        """Take up what the last run left in the kernel, before the kernel loop would remove it."""
        found = await self._lan.held()
        self._follow()
        now = self._clock()
        for address, known in self._known.items():
            if address in found and known.interface == found[address].interface:
                self._ones[address] = _One(address, Holding(self._me, now, adopted=True))
        adopted = {address: found[address] for address, one in self._ones.items() if one.holding.holds}
        self._adopted = frozenset(adopted)
        self._situation.floating.set(adopted)

    async def leave(self) -> None:
        """Drop all addresses and give the leases back, so that the next one need not find this host silent."""
        self._ends = True
        self._watch.wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_WITHIN_S):
                while any(one.holding.owes for one in self._ones.values()):
                    await asyncio.sleep(LOOK_EVERY_S)

    async def run(self) -> None:
        """Until cancelled; nothing is asked after that."""
        try:
            while True:
                end_if_cancelled()
                self._watch.catch_up()
                self.step()
                await asyncio.sleep(APART_S)
                await self._watch.wait(self._rest_s())
        finally:
            for one in self._ones.values():
                one.leave()
                one.quiet()

    def step(self) -> None:
        """Take what changed, do what is due, and say what comes of it."""
        self._follow()
        self._count()
        sessions = self._situation.bus.value.sessions
        is_new, self._sessions = sessions != self._sessions, sessions
        for address, one in list(self._ones.items()):
            if is_new:  # answers to what was asked before do not come any more
                one.quiet()
                one.ask_at = 0.0
            self._turn(one, self._known.get(address))
            if one.is_over and address not in self._known:
                one.leave()
                one.quiet()
                del self._ones[address]
        self._tell()

    def _follow(self) -> None:
        documents, addresses = self._situation.documents.value, self._situation.addresses.value
        if documents is self._documents and addresses is self._addresses:
            return
        self._documents, self._addresses = documents, addresses
        overlay = self._situation.local.interface
        self._known = returns(documents or Documents(), addresses.where.addresses, overlay)
        self._counting = {}
        for address in self._known.keys() - self._ones.keys():
            self._ones[address] = _One(address, Holding(self._me, self._clock()))

    def _count(self) -> None:
        """Look what clients have sent, if that was not just done."""
        ruleset, now = self._situation.passed.value.desired.ruleset, self._clock()
        if ruleset is not self._ruleset:
            self._ruleset, self._counting = ruleset, {}
        if not self._known or now < self._count_at:
            return
        self._count_at = now + COUNT_EVERY_S
        if not self._counting:
            self._counting = {address: counting(ruleset, known.routes) for address, known in self._known.items()}
        self._counts = self._lan.sent_by_clients()

    def _turn(self, one: "_One", known: Return | None) -> None:
        now, holding = self._clock(), one.holding
        self._attend(one, known)
        rules = self._counting.get(one.address, ())
        holding.used(sum(self._counts[rule].packets for rule in rules if rule in self._counts), now)
        if one.neighbours is not None:
            answers = one.neighbours.heard()
            holding.received(self._lan.received(one.interface), now)
            for mac in answers:
                holding.answered(mac, now)
        withdrawn = self._situation.withdrawn.value
        able = known is not None and one.neighbours is not None and not one.refused and not self._ends
        able = able and known is not None and not all(route in withdrawn for route in known.routes)
        leaving = self._situation.draining.value or (known is not None and known.leaving)
        holding.candidate(able, known.betters if known else frozenset(), now, leaving=leaving)
        holding.present(self._is_present(one.address), now)
        self._take_answer(one, now)
        if holding.next_deadline() <= now:
            holding.advance(now)
        for action in holding.take():
            if one.neighbours is None:
                continue
            match action:
                case Ask():
                    one.neighbours.ask(action.to)
                case Announce():
                    one.neighbours.announce()
        self._request(one, known, now)

    def _attend(self, one: "_One", known: Return | None) -> None:
        """Listen on the interface that leads into the LAN now."""
        wanted = (known.interface, known.source) if known and known.interface else ("", "")
        is_there = one.neighbours is not None and one.neighbours.is_there
        if wanted == (one.interface, one.source) and is_there:
            return
        one.leave()
        one.interface, one.source = wanted
        one.problem = known.problem if known else ""
        if not one.interface:
            return
        try:
            one.neighbours = self._lan.neighbours(one.interface, one.address, one.source)
        except OSError as problem:
            one.problem = f"{one.interface}: {problem.strerror or problem}"
            return
        asyncio.get_running_loop().add_reader(one.neighbours.fileno(), self._watch.wake)

    def _is_present(self, address: str) -> bool:
        """Whether the kernel has it, as the last pass left it."""
        passed, entry = self._situation.passed.value, f"floating {address}"
        if passed is self._first_pass:  # there was none yet
            return address in self._adopted
        return (address in passed.desired.floating) != (entry in passed.pending)

    def _request(self, one: "_One", known: Return | None, now: float) -> None:
        """Have management asked what is wished now, instead of what was wished before."""
        if self._situation.bus.value.standing != "connected":
            one.quiet()
            one.holding.told(None, now)
            return
        wish = one.holding.wish()
        routes = known.routes if known else one.routes
        if not routes or now < one.ask_at:
            return
        one.routes = routes
        if one.asking is not None:
            is_as_before = wish.wish == "watch" and one.wish is not None and one.wish.known == wish.known
            if is_as_before or one.wish is None or one.wish.wish != "watch":
                return
            one.quiet()
        one.wish = wish
        one.asking = asyncio.create_task(self._asked(routes[0], wish))
        one.asking.add_done_callback(lambda _: self._watch.wake())

    async def _asked(self, route_id: str, wish: Wish) -> LeaseReply | None:
        request = LeaseRequest(
            route_id=route_id,
            wish=wish.wish,
            known=wish.known,
            preferred=wish.preferred,
            hears=wish.hears,
            used_s=wish.used_s,
        )
        waits = wish.wish == "watch" and wish.known != ANEW
        within_s = CHANGE_WITHIN_S + (LEASE_ANSWER_WITHIN_S if waits else 0.0)
        answer = await self._ask(self._subject, encode(request), within_s)
        if answer is None:
            return None
        with contextlib.suppress(Undecodable):
            return decode("a lease", answer, LeaseReply)  # type: ignore[arg-type]
        return None

    def _take_answer(self, one: "_One", now: float) -> None:
        if one.asking is None or not one.asking.done():
            return
        answer = one.asking.result()
        one.asking = one.wish = None
        one.refused = answer.message if isinstance(answer, LeaseRefused) else ""
        if isinstance(answer, Lease):
            one.holding.told(answer, now)
        else:
            one.holding.told(None, now)
            one.ask_at = now + AGAIN_S

    def _tell(self) -> None:
        situation = self._situation
        floating = {
            address: FloatingAddress(address=address, interface=one.interface)
            for address, one in self._ones.items()
            if one.holding.holds and one.interface
        }
        if floating != situation.floating.value:
            _taken.inc(len(floating.keys() - situation.floating.value.keys()))
            _held.set(len(floating))
            situation.floating.set(floating)
        routes = held(self._known, (address for address in floating if self._is_present(address)))
        if routes != situation.held.value:
            situation.held.set(routes)
        returning = {address: self._shown(self._ones[address]) for address in self._known}
        if returning != situation.returning.value:
            self._log(situation.returning.value, returning)
            situation.returning.set(returning)

    def _shown(self, one: "_One") -> Returning:
        holding = one.holding
        lease = holding.lease
        holder = self._me if holding.holds else lease.holder if lease else ""
        problem = one.problem or one.refused
        if not problem and not holding.holds and holding.stranger:
            problem = f"a host with MAC {_mac(holding.stranger)} answers for it, and no routing peer holds it"
        return Returning(
            address=one.address,
            interface=one.interface,
            here=holding.holds,
            holder="" if holder == self._me and not holding.holds else holder,
            problem=problem,
        )

    def _log(self, before: Mapping[str, Returning], now: Mapping[str, Returning]) -> None:
        for address, one in now.items():
            former = before.get(address)
            if former is None or (former.here, former.holder) != (one.here, one.holder):
                holder = "this host" if one.here else one.holder or "nobody that is known"
                log.info("return address", address=address, held_by=holder)
            if one.problem and (former is None or former.problem != one.problem):
                log.warning("return address", address=address, problem=one.problem)

    def _rest_s(self) -> float:
        now = self._clock()
        due = [one.holding.next_deadline() for one in self._ones.values()]
        due += [one.ask_at for one in self._ones.values() if one.ask_at > now]
        due += [self._count_at] if any(not one.holding.holds for one in self._ones.values()) else []
        return max(0.0, min(due, default=now + 3600.0) - now)


class _One:
    """One address, with what is open for it. interface, source: of `neighbours`. wish: what `asking` asks for."""

    def __init__(self, address: str, holding: Holding) -> None:
        self.address = address
        self.holding = holding
        self.interface = self.source = ""
        self.neighbours: NeighboursPort | None = None
        self.routes: tuple[str, ...] = ()
        self.asking: asyncio.Task[LeaseReply | None] | None = None
        self.wish: Wish | None = None
        self.ask_at = 0.0
        self.problem = ""
        self.refused = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be given back, or nobody to give it to."""
        return bool(self.refused) or not self.holding.owes

    def leave(self) -> None:
        """Hear no more of the LAN."""
        if self.neighbours is not None:
            asyncio.get_running_loop().remove_reader(self.neighbours.fileno())
            self.neighbours.close()
            self.neighbours = None

    def quiet(self) -> None:
        """Ask nothing any more."""
        if self.asking is not None:
            self.asking.cancel()
            self.asking = self.wish = None


def _mac(text: str) -> str:
    return ":".join(text[at : at + 2] for at in range(0, len(text), 2))
