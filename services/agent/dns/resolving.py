"""Tells the resolver what this host's own servers say of names of routes that it serves (decision D6)."""

import asyncio
import secrets
import time
from collections.abc import Callable

import dns.exception
import dns.message
import dns.rcode
from dns.rdatatype import AAAA, A, RdataType

from services.agent.core.dns.messages import addresses
from services.agent.core.dns.resolvconf import upstream
from services.agent.core.dns.served import served_names
from services.agent.core.documents import Documents
from services.agent.dns.racing import Racing, Servers
from services.agent.ports import Publish
from services.agent.situation import Situation
from shared.bus.codec import decode, encode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.signals import MOST_NAMES, NameAnswer, Resolve, Resolved
from shared.metrics import REGISTRY, Counter
from shared.tasks import end_if_cancelled

WITHIN_S = 2.5
"""What was not found by then is said to have failed: the resolver waits little longer, and asks somebody else."""

TOGETHER_S = 0.02
"""Answers that come so close together are one message."""

AT_ONCE = 256
"""Names that are asked for at once; the resolver asks for fewer of one account."""

MOST_REQUESTS = 64
"""That may wait; the resolver takes what is dropped for silence."""

_asked = Counter("whimbrel_agent_resolver_names", "Names that the resolver asked for", ["result"], registry=REGISTRY)


class Resolving:
    """Tells what it finds as it is found, so that no name waits for another (decision D7)."""

    def __init__(
        self,
        situation: Situation,
        servers: Servers,
        publish: Publish,
        account: str,
        peer_id: str,
        undecodables: Undecodables,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._situation = situation
        self._racing = Racing(servers, clock)
        self._publish = publish
        self._peer_id = peer_id
        self._subject = subjects.resolved(account, peer_id)
        self._undecodables = undecodables
        self._clock = clock
        self._requests = asyncio.Queue[Resolve](MOST_REQUESTS)
        self._lanes = asyncio.Semaphore(AT_ONCE)

    def hear(self, subject: str, data: bytes) -> None:
        """Take a request of the resolver's; the bus lets nobody else ask."""
        try:
            self._requests.put_nowait(decode(subject, data, Resolve))
        except Undecodable as problem:
            self._undecodables.note("resolve", problem)
        except asyncio.QueueFull:
            _asked.labels("dropped").inc()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                end_if_cancelled()
                tasks.create_task(self._answer(await self._requests.get()))

    async def _answer(self, request: Resolve) -> None:
        served = served_names(self._situation.documents.value or Documents(), self._peer_id)
        names = [name for name in request.names[:MOST_NAMES] if name in served]
        _asked.labels("not served").inc(len(request.names) - len(names))
        asking = {asyncio.create_task(self._look_up(name)): name for name in names}
        until = self._clock() + WITHIN_S
        try:
            while asking and (left_s := until - self._clock()) > 0.0:
                await asyncio.wait(asking, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(TOGETHER_S)
                found = [task for task in asking if task.done()]
                for task in found:
                    del asking[task]
                await self._tell(request, [task.result() for task in found])
            await self._tell(request, [NameAnswer(name, None, None) for name in asking.values()])
        finally:
            for task in asking:
                task.cancel()

    async def _tell(self, request: Resolve, answers: list[NameAnswer]) -> None:
        if not answers:
            return
        failed = sum(one.v4 is None and one.v6 is None for one in answers)
        _asked.labels("failed").inc(failed)
        _asked.labels("answered").inc(len(answers) - failed)
        await self._publish(self._subject, encode(Resolved(request=request.request, answers=tuple(answers))))

    async def _look_up(self, name: str) -> NameAnswer:
        async with self._lanes:
            v4, v6 = await asyncio.gather(self._ask(name, A), self._ask(name, AAAA))
            return NameAnswer(name, v4, v6)

    async def _ask(self, name: str, kind: RdataType) -> tuple[str, ...] | None:
        """Addresses; None when nobody says."""
        servers = upstream(self._situation.host_dns.value, self._situation.dns.value.address)
        sent = dns.message.make_query(f"{name}.", kind, use_edns=0, payload=1232, id=secrets.randbits(16))
        won = await self._racing.ask((servers,) if servers else (), sent, tcp=False)
        if won is None:
            return None
        if won.message.rcode() == dns.rcode.NXDOMAIN:
            return ()
        if won.message.rcode() != dns.rcode.NOERROR:
            return None
        try:
            return tuple(map(str, addresses(won.message)))
        except dns.exception.DNSException:
            return None
