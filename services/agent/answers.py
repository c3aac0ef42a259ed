"""What the agent answers on its socket."""

from collections.abc import Awaitable, Callable, Mapping

from services.agent.core.paths.pathbook import PathBook
from services.agent.core.routing.choices import DESELECT_ALL, SELECT_ALL, Selection, deselect, select
from services.agent.core.routing.hagroups import HaGroup, offered
from services.agent.core.show.status import About, networks, status
from services.agent.ports import Passed, Request

ALL = ("all",)


class Answers:
    """passed: what the loop's last pass left. selection, choose: what people chose, and where a new choice goes.

    stop: ends the agent and gives what it could not remove.
    """

    def __init__(
        self,
        passed: Callable[[], Passed],
        book: PathBook,
        about: Callable[[], About],
        selection: Callable[[], Selection],
        choose: Callable[[Selection], None],
        stop: Callable[[], Awaitable[Mapping[str, str]]],
    ) -> None:
        self._passed = passed
        self._book = book
        self._about = about
        self._selection = selection
        self._choose = choose
        self._stop = stop

    def table(self) -> dict[str, Callable[[Request], Awaitable[object]]]:
        """Answers by what a request wants done."""
        return {
            "status": self._status,
            "networks": self._networks,
            "select": self._select,
            "deselect": self._deselect,
            "down": self._down,
        }

    async def _status(self, _: Request) -> object:
        passed = self._passed()
        return status(passed.documents, passed.local, passed.shown, self._book.statuses(), self._about())

    async def _networks(self, _: Request) -> object:
        passed = self._passed()
        return networks(passed.documents, passed.local, passed.shown, self._book.statuses())

    async def _select(self, request: Request) -> object:
        """Ids that are not offered."""
        if request.ids == ALL:
            self._choose(SELECT_ALL)
            return ()
        selection, unknown = select(self._selection(), self._groups(), request.ids, append=request.append)
        self._choose(selection)
        return unknown

    async def _deselect(self, request: Request) -> object:
        """Ids that are not offered."""
        if request.ids == ALL:
            self._choose(DESELECT_ALL)
            return ()
        selection, unknown = deselect(self._selection(), self._groups(), request.ids)
        self._choose(selection)
        return unknown

    async def _down(self, _: Request) -> object:
        """What could not be removed."""
        return await self._stop()

    def _groups(self) -> tuple[HaGroup, ...]:
        documents = self._passed().documents
        if documents.self_doc is None:
            return ()
        return offered(documents.routes.values(), documents.self_doc, documents.peers)
