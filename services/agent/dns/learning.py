"""Has the addresses that routing peers answered routed, and says when they are (decision D4)."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from ipaddress import ip_network

from services.agent.cells import Watch
from services.agent.core.dns.forwarders import Groups, carrier
from services.agent.core.dns.learned import Address, Learned, LearnedBefore
from services.agent.core.dns.rules import used_groups
from services.agent.core.documents import Documents
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.hagroups import HaKey
from services.agent.ports import Kept
from services.agent.situation import Situation
from shared.tasks import end_if_cancelled

PATIENCE_S = 2.0
"""How long an answer waits for its routes: a pass takes milliseconds, a busy one a few hundred."""

EXPIRE_EVERY_S = 60.0
KEEP_AFTER_S = 5.0
KEEP_TIMES_AFTER_S = 3600.0
"""When only the times changed at which answers had addresses: what is in use must not look old after a crash (R1)."""

NOT_ROUTED = "the kernel has not taken its route yet"


class Learning:
    """Keeps the cell `learned`. kept: what the former run knew, so that a restart takes no route away.

    clock: seconds that only go forward.
    """

    def __init__(
        self, situation: Situation, kept: Kept[LearnedBefore], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._situation = situation
        self._kept = kept
        self._clock = clock
        self._learned = Learned(kept.value)
        self._watch = Watch(situation.passed, situation.documents, situation.choices)
        self._waiting: list[tuple[HaKey, str, frozenset[str], asyncio.Future[bool]]] = []
        self._groups = Groups()
        self._keep_at: float | None = None
        self._restricted_by: tuple[Documents, Selection] | None = None
        situation.learned.set(self._learned.resolved())

    async def run(self) -> None:
        """Until cancelled."""
        expire_at = self._clock() + EXPIRE_EVERY_S
        while True:
            end_if_cancelled()
            keep_in_s = EXPIRE_EVERY_S if self._keep_at is None else max(0.0, self._keep_at - self._clock())
            await self._watch.wait(min(EXPIRE_EVERY_S, keep_in_s))
            self._release()
            now = self._clock()
            if self._restrict() or (now >= expire_at and self._learned.expire(time.time())):
                self._tell()
            if now >= expire_at:
                expire_at = now + EXPIRE_EVERY_S
            if self._keep_at is not None and now >= self._keep_at:
                self.keep()

    def keep(self) -> None:
        """Write what is known to disk; without room there it is tried with the next change."""
        self._keep_at = None
        with contextlib.suppress(OSError):
            self._kept.keep(self._learned.seen())

    def seen(self) -> LearnedBefore:
        """What is known now, and when an answer last had it."""
        return self._learned.seen()

    async def learn(self, key: HaKey, name: str, version: int, addresses: Collection[Address], *, keep: bool) -> bool:
        """Whether the kernel has the routes of these addresses, or is known not to be asked for them.

        Addresses that may not be routed have no route, and are waited for no longer than the others.
        """
        if self._learned.take(key, name, version, addresses, time.time(), keep=keep):
            self._tell()
        self._keep_within(KEEP_TIMES_AFTER_S)
        wanted = frozenset(map(str, addresses)).intersection(self._learned.held(key, name))
        if not self._is_in(key, name, wanted):
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append((key, name, wanted, future))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await future
            except TimeoutError:
                return False
            finally:
                self._waiting = [one for one in self._waiting if one[3] is not future]
        return self._is_routed(key, wanted)

    def _tell(self) -> None:
        self._situation.learned.set(self._learned.resolved())
        self._keep_within(KEEP_AFTER_S)

    def _keep_within(self, s: float) -> None:
        at = self._clock() + s
        self._keep_at = at if self._keep_at is None else min(self._keep_at, at)

    def _release(self) -> None:
        """Have those go on whose addresses the last pass knew: what it says of them, not what a later one does."""
        for key, name, wanted, future in self._waiting:
            if not future.done() and self._is_in(key, name, wanted):
                future.set_result(self._is_routed(key, wanted))

    def _is_in(self, key: HaKey, name: str, wanted: frozenset[str]) -> bool:
        found = self._situation.passed.value.learned.get(key, {}).get(name)
        return found is not None and wanted.issubset(found.addresses)

    def _is_routed(self, key: HaKey, wanted: Collection[str]) -> bool:
        """Whether the last pass failed at none of the routes, nor at the peer that has their allowed IPs."""
        passed = self._situation.passed.value
        documents, errors = passed.documents, passed.errors
        if not errors:
            return True
        carried = carrier(key, self._groups.of(documents.routes, key), {}, passed.desired.routing_peers)
        peer = documents.peers.get(carried)
        failed = peer is not None and ("peer", peer.wireguard_key) in errors
        return not failed and not any(("route", str(ip_network(text))) in errors for text in wanted)

    def _restrict(self) -> bool:
        """Forget what belongs to routes that this host does not use any more."""
        documents, choices = self._situation.documents.value, self._situation.choices.value
        former = self._restricted_by
        if documents is None or (former is not None and former[0] is documents and former[1] is choices):
            return False
        self._restricted_by = documents, choices
        return self._learned.restrict(
            used_groups(
                documents.self_doc,
                documents.settings,
                documents.routes.values(),
                documents.peers,
                choices,
            )
        )
