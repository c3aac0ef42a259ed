"""Asks routing peers for names, over the bus: what they see of a private network nobody else does (decision D6)."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.resolver.core.answers import Answer, usable
from services.resolver.core.questions import Question
from services.resolver.core.routing import Routing
from services.resolver.ports import Upstream
from shared.bus.codec import decode, encode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import ROUTING_PEER
from shared.events.signals import MOST_NAMES, NameAnswer, Resolve, Resolved
from shared.events.subjects import BadSubject, ResolvedKey
from shared.metrics import REGISTRY, Counter

WITHIN_S = 3.0
"""A routing peer has asked its own servers by then, or says so."""

LINGER_S = 0.01
"""Names for one peer that are due together make one message."""

_asked = Counter("whimbrel_resolver_peer_questions", "Names that peers were asked for", ["result"], registry=REGISTRY)

UNKNOWN = Answer(v4=None, v6=None)

Waiting = asyncio.Future[Answer]


class RoutingPeers:
    """Asks a question's routing peers first, one after the other, and then the DNS servers (port Upstream)."""

    def __init__(
        self,
        connection: Client,
        servers: Upstream,
        undecodables: Undecodables,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._servers = servers
        self._undecodables = undecodables
        self._clock = clock
        self._routing = Routing()
        self._due: dict[ResolvedKey, dict[str, Waiting]] = {}
        self._waiting: dict[tuple[ResolvedKey, str], Mapping[str, Waiting]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Hear the answers from now on."""
        await self._connection.subscribe(subjects.RESOLVED_ALL, cb=self._arrived)

    def answered_before(self, peers: Iterable[ResolvedKey]) -> None:
        """Others had answers of these."""
        for peer in peers:
            self._routing.answered_before(peer)

    async def look_up(self, question: Question) -> Answer:
        keys = [ResolvedKey(question.account, peer) for peer in question.routing_peers]
        if keys and not self._connection.is_connected:
            return UNKNOWN  # nobody is silent because we are not heard
        silent = []
        for key in self._routing.to_ask(keys, self._clock()):
            answer = await self._ask(key, question.name)
            if answer is None:
                silent.append(key)
            elif answer != UNKNOWN:
                return answer
        if self._routing.may_be_back(silent):
            return UNKNOWN
        return await self._servers.look_up(question)

    async def _ask(self, key: ResolvedKey, name: str) -> Answer | None:
        """What the peer says, UNKNOWN when it cannot find out; None when it is silent."""
        if key not in self._due:
            self._due[key] = {}
            sending = asyncio.create_task(self._send(key))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        answer = self._due[key].setdefault(name, asyncio.get_running_loop().create_future())
        await asyncio.wait({answer}, timeout=LINGER_S + WITHIN_S)
        if not answer.done():
            self._routing.silent(key, self._clock())
            _asked.labels("silent").inc()
            return None
        _asked.labels("failed" if answer.result() == UNKNOWN else "answered").inc()
        return answer.result()

    async def _send(self, key: ResolvedKey) -> None:
        await asyncio.sleep(LINGER_S)
        due = list(self._due.pop(key).items())
        for start in range(0, len(due), MOST_NAMES):
            part, request = dict(due[start : start + MOST_NAMES]), secrets.token_hex(8)
            self._waiting[key, request] = part
            message = Resolve(request=request, names=tuple(part))
            try:
                await self._connection.publish(subjects.resolve(key.account, key.peer), encode(message))
            except nats.errors.Error:
                """The bus is away, and nobody answers."""
            asyncio.get_running_loop().call_later(WITHIN_S, self._waiting.pop, (key, request), None)

    async def _arrived(self, message: Msg) -> None:
        """The bus lets nobody but the peer itself write here; what it was not asked for is not looked at."""
        try:
            key = subjects.parse_resolved(message.subject)
            resolved = decode(message.subject, message.data, Resolved)
            waiting = self._waiting.get((key, resolved.request), {})
            answers = {one.name: _answer(key, one) for one in resolved.answers if one.name in waiting}
        except (BadSubject, Undecodable, ValueError) as problem:
            self._undecodables.note(subjects.RESOLVED_ALL, Undecodable(message.subject, str(problem)))
            return
        for name, answer in answers.items():
            self._routing.answered(key)
            if not waiting[name].done():
                waiting[name].set_result(answer)


def _answer(key: ResolvedKey, said: NameAnswer) -> Answer:
    """Raises ValueError for addresses that are none."""
    if said.v4 is None and said.v6 is None:
        return UNKNOWN
    v4, v6 = (None if family is None else usable(family) for family in (said.v4, said.v6))
    return Answer(v4=v4, v6=v6, source=f"{ROUTING_PEER}{key.peer}")
