"""The handlers of the control socket: what the agent does at each request, and what it gives as the result."""

import time
from collections.abc import Awaitable, Callable, Mapping

from services.agent.core.dns.learned import LearnedBefore
from services.agent.core.dns.messages import Question, typed
from services.agent.core.dns.outcome import Outcome
from services.agent.core.documents import Documents
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.routing.choices import DESELECT_ALL, SELECT_ALL, Selection, deselect, select
from services.agent.core.routing.hagroups import HaGroup, offered
from services.agent.core.show.dns import explained, no_question
from services.agent.core.show.hasets import as_carried, history
from services.agent.core.show.status import About, Forwarder, networks, status
from services.agent.ports import Kept, Request, WireGuardDriver
from services.agent.situation import Forwarding, Situation
from shared.version import VERSION

ALL = ("all",)


class Handlers:
    """bus_url: where the bus is, as people wrote it. kept: what people chose, from run to run.

    stop: ends the agent, after so many seconds for its clients to leave at most, and gives what it could not remove.
    explain: answers a question as a program's, and says in how many seconds. learned: what routing peers answered.
    """

    def __init__(
        self,
        situation: Situation,
        book: PathBook,
        device: WireGuardDriver,
        bus_url: str,
        kept: Kept[Selection],
        stop: Callable[[float], Awaitable[Mapping[str, str]]],
        explain: Callable[[Question], Awaitable[tuple[Outcome, float]]],
        learned: Callable[[], LearnedBefore],
    ) -> None:
        self._situation = situation
        self._book = book
        self._device = device
        self._bus_url = bus_url
        self._kept = kept
        self._stop = stop
        self._explain = explain
        self._learned = learned

    def table(self) -> dict[str, Callable[[Request], Awaitable[object]]]:
        """`do` of a request → its handler."""
        return {
            "status": self._status,
            "networks": self._networks,
            "history": self._history,
            "select": self._select,
            "deselect": self._deselect,
            "dns": self._dns,
            "down": self._down,
        }

    async def _status(self, _: Request) -> object:
        passed, shown = self._situation.passed.value, self._situation.shown
        return status(passed.documents, passed.local, shown, self._book.statuses(), self._about())

    async def _networks(self, _: Request) -> object:
        passed, shown = self._situation.passed.value, self._situation.shown
        rankings = as_carried(self._situation.rankings.value, self._situation.carriers.value)
        health = self._situation.health.value
        return networks(passed.documents, passed.local, shown, self._book.statuses(), rankings, health, self._learned())

    async def _history(self, request: Request) -> object:
        """Switches, oldest first; of one network where one is named."""
        return history(self._situation.switches.value, *request.ids[:1])

    async def _dns(self, request: Request) -> object:
        """What becomes of a question. ids: name and type."""
        name, kind = (*request.ids, "A", "A")[:2]
        try:
            asked = typed(name, kind)
        except ValueError as problem:
            return no_question(str(problem))
        rules = self._situation.dns.value.rules
        outcome, took_s = await self._explain(asked)
        documents = self._situation.documents.value or Documents()
        return explained(asked, outcome, took_s, rules, documents.peers)

    async def _select(self, request: Request) -> object:
        """Ids that are not offered."""
        if request.ids == ALL:
            self._choose(SELECT_ALL)
            return ()
        selection, unknown = select(self._situation.choices.value, self._groups(), request.ids, append=request.append)
        self._choose(selection)
        return unknown

    async def _deselect(self, request: Request) -> object:
        """Ids that are not offered."""
        if request.ids == ALL:
            self._choose(DESELECT_ALL)
            return ()
        selection, unknown = deselect(self._situation.choices.value, self._groups(), request.ids)
        self._choose(selection)
        return unknown

    async def _down(self, request: Request) -> object:
        """What could not be removed."""
        return await self._stop(request.drain_s)

    def _groups(self) -> tuple[HaGroup, ...]:
        documents = self._situation.passed.value.documents
        if documents.self_doc is None:
            return ()
        return offered(documents.routes.values(), documents.self_doc, documents.peers)

    def _choose(self, selection: Selection) -> None:
        self._kept.keep(selection)
        self._situation.choices.set(selection)

    def _about(self) -> About:
        passed, bus = self._situation.passed.value, self._situation.bus.value
        return About(
            version=VERSION,
            backend=self._device.name,
            bus_url=self._bus_url,
            bus_connected=bus.standing == "connected",
            bus_error=bus.problem,
            applied_revision=passed.applied_revision,
            pending=passed.pending,
            limit="; ".join(filter(None, (self._device.limit, self._situation.unasked.value))),
            health=self._situation.health.value,
            returning=self._situation.returning.value,
            connection_limit="; ".join(
                filter(None, (self._situation.unended.value, self._situation.unforgotten.value))
            ),
            carried=self._situation.carried.value,
            forwarder=_forwarder(self._situation.forwarder.value),
            told=self._situation.addresses.value.told,
            now=time.monotonic(),
            wall=time.time(),
        )


def _forwarder(one: Forwarding) -> Forwarder | None:
    if not one.names:
        return None
    return Forwarder(
        names=one.names,
        listening=one.state.listening,
        unbound=one.state.unbound,
        nameservers=one.state.nameservers,
        problem=one.problem or one.state.problem,
        counts=one.state.counts,
        learned=one.learned,
        left_out=one.state.left_out,
    )
