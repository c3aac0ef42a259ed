"""Has the forwarder run while this host serves names, and permits what it learns before clients hear of it."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping

import msgspec
import structlog

from services.agent.cells import Watch, since
from services.agent.core.forwarder.learned import LOOK_EVERY_S, USED_S, Learned, Use, batches, elements, used
from services.agent.core.forwarder.messages import (
    LENGTH_BYTES,
    MOST_BYTES,
    MOST_NAME,
    Filled,
    Follow,
    Permit,
    Resolve,
    Resolved,
    State,
    ToForwarder,
    framed,
    read_by_agent,
    unfit,
)
from services.agent.core.forwarder.terms import NOTHING, Never, terms
from services.agent.core.kernel import Ruleset
from services.agent.errors import MechanismMissing
from services.agent.ports import ConntrackDriver, LearnedDriver
from services.agent.situation import Forwarding, PassResult, Situation
from shared.bus.patience import Trouble, in_a_line
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled, first_of

APART_S = 0.05
"""Between two changes of the terms: whoever else changes meanwhile is in the next ones."""
START_AGAIN_S = 1.0
FILL_AGAIN_S = 1.0
"""Between two tries to fill what was emptied, and to read what is there, when no pass comes in between."""
RESOLVED_WITHIN_S = 10.0
ENDING_S = 1.0
"""How long an address stays that is taken out: the kernel does it, as with every other that ends."""

log = structlog.get_logger()

_permitted = Counter("whimbrel_agent_forwarder_permits", "Answers whose addresses were permitted", registry=REGISTRY)
_learned = Gauge("whimbrel_agent_learned_addresses", "Addresses permitted because of a name", registry=REGISTRY)

Start = Callable[[], "tuple[socket.socket, subprocess.Popen[bytes]]"]


class Forwards:
    """Writes `forwarder`. start: the process, and the connection to it.

    `resolve` is for who wants to know where a name of a served route leads, without being a client.
    """

    def __init__(self, situation: Situation, nft: LearnedDriver, conntrack: ConntrackDriver, start: Start) -> None:
        self._situation = situation
        self._nft = nft
        self._conntrack = conntrack
        self._start = start
        self._watch = Watch(situation.passed, situation.addresses, situation.host_dns)
        self._nameservers: tuple[str, ...] = ()
        self._passed: PassResult | None = None
        self._dirty = situation.dirty.value
        self._own: frozenset[str] = frozenset()
        self._terms = NOTHING
        self._never = Never((), ())
        self._keeping: frozenset[str] = frozenset()
        self._learned = Learned()
        self._adopted: frozenset[str] = frozenset()
        self._emptied = nft.emptied
        self._owes = False
        self._writer: asyncio.StreamWriter | None = None
        self._resolving: dict[int, asyncio.Future[Resolved]] = {}
        self._number = 0
        self._unread = Trouble("what is in the sets of learned addresses cannot be read", "it is read again")
        self._unfilled = Trouble("sets of learned addresses are not filled again", "they are filled again")
        self._unpermitted = Trouble("addresses that a name leads to are not permitted")
        self._unlisted = Trouble("learned addresses with connections may end", "their connections are seen again")

    async def run(self) -> None:
        """Until cancelled."""
        await first_of(self._follow(), self._serve(), self._look_after())

    async def resolve(self, name: str) -> Resolved:
        """Where a name of a route that this host serves leads now, as its nameservers say; what is given is permitted.

        name: as routes have it, no wildcard. At most RESOLVED_WITHIN_S.
        """
        if self._writer is None:
            return Resolved(0, problem="the forwarder does not run on this host")
        self._number += 1
        number = self._number
        waiting: asyncio.Future[Resolved] = asyncio.get_running_loop().create_future()
        self._resolving[number] = waiting
        try:
            self._say(Resolve(number, name))
            async with asyncio.timeout(RESOLVED_WITHIN_S):
                return await waiting
        except TimeoutError:
            return Resolved(number, problem="the forwarder did not answer")
        finally:
            del self._resolving[number]

    async def _follow(self) -> None:
        """Keep the terms true, and sets filled that others emptied, or a table that was taken only without them."""
        while True:
            end_if_cancelled()
            is_behind = self._owes or not self._adopted.issuperset(self._terms.domains)
            await self._watch.wait(FILL_AGAIN_S if is_behind else None)
            passed, dirty, emptied = self._situation.passed.value, self._situation.dirty.value, self._nft.emptied
            is_emptied = "ruleset" in since(self._dirty, dirty) or emptied != self._emptied
            self._dirty, self._emptied = dirty, emptied
            nameservers, self._nameservers = self._nameservers, self._situation.host_dns.value.servers
            has_changed = self._has_changed(passed) or nameservers != self._nameservers
            if has_changed or not self._adopted.issuperset(self._terms.domains):
                await self._adopt()
                self._show()
            if has_changed:
                self._say(Follow(self._terms, self._nameservers))
            self._owes = self._terms != NOTHING and (self._owes or is_emptied)
            if self._owes:
                await self._fill_again()
            await asyncio.sleep(APART_S)

    def _has_changed(self, passed: PassResult) -> bool:
        """Whether the terms are other ones than before; takes them over."""
        where = self._situation.addresses.value.where
        listen = {one.partition("/")[0] for link in passed.desired.links.values() for one in link.addresses}
        own = frozenset({one.address.partition("/")[0] for one in where.addresses} | listen)
        former, self._passed = self._passed, passed
        same = former is not None and former.documents is passed.documents
        if same and former and former.desired.served == passed.desired.served and own == self._own:
            return False
        self._own = own
        found = terms(passed.documents, passed.desired.served, own, listen)
        self._keeping = frozenset(id for id in found.domains if passed.documents.routes[id].keep_route)
        before, self._terms = self._terms, found
        self._never = Never(found.overlay, found.own)
        return before != found

    async def _adopt(self) -> None:
        """Know of what is in the sets of routes that have come: of the last run, or of none."""
        now, served = time.monotonic(), frozenset(self._terms.domains)
        came, self._adopted = served - self._adopted, self._adopted & served
        self._learned.forget(served, now)
        ruleset = self._passed.desired.ruleset if self._passed is not None else None
        if came and ruleset is not None:
            there = await self._read(ruleset)
            if there is None:
                return
            self._learned.adopt(came, there, time.monotonic())
        self._adopted = served

    async def _serve(self) -> None:
        """Have the process run while there is something to answer for."""
        watch = Watch(self._situation.forwarder)
        while True:
            end_if_cancelled()
            if self._terms == NOTHING:
                await watch.wait()
                continue
            try:
                connection, child = self._start()
            except OSError as problem:
                self._show(problem=f"the forwarder cannot be started: {problem}")
                await asyncio.sleep(START_AGAIN_S)
                continue
            try:
                await self._converse(connection)
            finally:
                await _end(child)
            if self._terms != NOTHING:
                log.error("the forwarder ended, and is started again", code=child.returncode)
                self._show(problem="it ended, and is started again")
                await asyncio.sleep(START_AGAIN_S)

    async def _converse(self, connection: socket.socket) -> None:
        """Until the process ends, or there is nothing to answer for."""
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        try:
            self._say(Follow(self._terms, self._nameservers))
            self._show()
            await first_of(self._hear(reader), self._until_idle())
        except (EOFError, OSError):
            pass
        except msgspec.DecodeError as problem:
            log.error("the forwarder is ended: it says what cannot be read", problem=in_a_line(problem))
        finally:
            self._writer.close()
            self._writer = None
            for waiting in self._resolving.values():
                if not waiting.done():
                    waiting.set_result(Resolved(0, problem="the forwarder ended"))

    async def _until_idle(self) -> None:
        watch = Watch(self._situation.forwarder)
        while self._terms != NOTHING:
            end_if_cancelled()
            await watch.wait()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while True:
            end_if_cancelled()
            size = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
            if size > MOST_BYTES:
                raise msgspec.DecodeError(f"a message of {size} bytes")
            match read_by_agent(await reader.readexactly(size)):
                case Permit() as permit:
                    self._say(Filled(permit.number, await self._permit(permit)))
                case Resolved() as resolved:
                    waiting = self._resolving.get(resolved.number)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(resolved)
                case State() as state:
                    if state.rights and state.rights != self._situation.forwarder.value.state.rights:
                        log.warning("the forwarder works with more rights than it needs", why=state.rights)
                    self._show(state)

    async def _permit(self, permit: Permit) -> str:
        """Why the addresses are not permitted, "" when they are."""
        routes = [id for id in permit.routes if id in self._terms.domains]
        if not routes:
            return "the route is gone"
        problem = unfit(permit, self._never) or await self._learn(routes, permit)
        if problem:
            self._unpermitted.tell(f"{permit.name[:MOST_NAME]}: {problem}")
        else:
            self._unpermitted.over()
            _permitted.inc()
        return problem

    async def _learn(self, routes: Collection[str], permit: Permit) -> str:
        now = time.monotonic()
        try:
            wanted = self._learned.asked(routes, self._keeping, permit.name, permit.addresses, permit.for_s, now)
        except OverflowError:
            return "too many addresses of names are permitted already"
        return await self._fill(wanted)

    async def _fill_again(self) -> None:
        """Fill what may have been emptied; where that fails it remains to be done."""
        problem = await self._write(self._learned.all(time.monotonic()))
        self._owes = bool(problem)
        if problem:
            self._unfilled.tell(problem)
        else:
            self._unfilled.over()

    async def _fill(self, wanted: Mapping[Use, float]) -> str:
        """Put addresses into the sets that are not there for as long; gives why that failed, "" when it did not."""
        return await self._write(wanted if self._owes else self._learned.longer(wanted, time.monotonic()))

    async def _write(self, wanted: Mapping[Use, float]) -> str:
        for some in batches(wanted):
            problem = await self._filled(some)
            if problem:
                return problem
            self._learned.put(some, time.monotonic())
        return ""

    async def _filled(self, some: Mapping[Use, float]) -> str:
        try:
            return await self._nft.fill(elements(some)) or ""
        except (MechanismMissing, OSError) as failure:
            return in_a_line(failure)

    async def _look_after(self) -> None:
        """Extend what connections still lead to, before it ends."""
        while True:
            end_if_cancelled()
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """One look at what ends soon, at what is to make room, and at what went too early."""
        now = time.monotonic()
        self._learned.forget(self._terms.domains.keys(), now)
        due, crowding, by_number = self._learned.due(now), self._learned.crowding(now), self._terms.audiences
        if due or crowding:
            looked_at = {*due, *crowding}
            askers = {address: by_number[number] for address, number in self._terms.askers.items()}
            try:
                kept = await asyncio.to_thread(self._used, looked_at, askers)
            except (MechanismMissing, OSError) as problem:
                self._unlisted.tell(problem)
                kept = list(looked_at)  # rather open for longer than shut under a connection
            else:
                self._unlisted.over()
                self._learned.use(kept, time.monotonic())
            await self._fill(dict.fromkeys(kept, USED_S))
            await self._take_out(set(crowding).difference(kept))
        await self._restore()
        self._show()

    async def _take_out(self, uses: Collection[Use]) -> None:
        for some in batches(dict.fromkeys(self._learned.idle(uses, time.monotonic()), ENDING_S)):
            # Gone before it is: who asks meanwhile has it filled again, after this.
            left = self._learned.drop(some, time.monotonic())
            if await self._filled(some):
                self._learned.put(left, time.monotonic())  # the next look takes them out

    async def _restore(self) -> None:
        """Fill what is not there although it should be: a table that the kernel did not take with it, for one."""
        ruleset = self._passed.desired.ruleset if self._passed is not None else None
        wanted = self._learned.all(time.monotonic())
        there = await self._read(ruleset) if ruleset is not None and wanted else None
        if there is not None:
            await self._write(
                {use: left_s for use, left_s in wanted.items() if use.address not in there.get(use.set_name, ())}
            )

    async def _read(self, ruleset: Ruleset) -> Mapping[str, Mapping[str, float]] | None:
        """What is in the sets: set name → address → seconds; None when the kernel does not say."""
        try:
            there = await self._nft.filled(ruleset)
        except (MechanismMissing, OSError) as problem:
            self._unread.tell(problem)
            return None
        self._unread.over()
        return there

    def _used(self, due: Collection[Use], askers: Mapping[str, Collection[str]]) -> list[Use]:
        return used(due, self._conntrack.begun_by(askers.keys()), askers)

    def _say(self, message: ToForwarder) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(framed(message))

    def _show(self, state: State | None = None, *, problem: str = "") -> None:
        former = self._situation.forwarder.value
        _learned.set(len(self._learned))
        self._situation.forwarder.set(
            Forwarding(
                names=tuple(sorted({name for names in self._terms.domains.values() for name in names})),
                state=(state or former.state) if not problem and self._terms != NOTHING else State(),
                learned=len(self._learned),
                problem=problem,
            )
        )


async def _end(child: "subprocess.Popen[bytes]") -> None:
    """It ends with the connection, which is closed."""
    try:
        await asyncio.to_thread(child.wait, 2.0)
    except subprocess.TimeoutExpired:
        child.kill()
        await asyncio.to_thread(child.wait)
