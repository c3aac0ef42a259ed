"""The resolver's newest facts, as far as the fold knows the routes they were made for."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from services.management.core.feed.unit import Resolutions
from services.management.ports import Fold
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import ResolvedName
from shared.events.facts import ResolutionFact
from shared.events.subjects import BadSubject, FactKey


class Facts:
    """Follows the resolution facts (shared.bus.lastvalues.Reader).

    A fact that names a newer revision than the fold has is kept aside until the fold is there; the route's
    former names stay meanwhile. They stay, too, when the fact of an existing route is lost: the resolver ends a fact
    with one that has no names, and writes a lost fact again.
    on_change: called with account and route whenever `resolutions` says something else about them.
    """

    def __init__(self, fold: Fold, undecodables: Undecodables) -> None:
        self._fold = fold
        self._undecodables = undecodables
        self.on_change: Callable[[str, str], None] = lambda _account, _route: None
        self._names: dict[str, dict[str, tuple[ResolvedName, ...]]] = defaultdict(dict)
        self._ahead: dict[FactKey, ResolutionFact] = {}
        self._standing: set[FactKey] = set()
        self._found: set[FactKey] | None = None
        self._known = asyncio.Event()

    async def known(self) -> None:
        """Return once all facts were read."""
        await self._known.wait()

    def resolutions(self, account: str) -> Resolutions:
        return self._names.get(account, {})

    def keep(self, account: str, route: str, names: tuple[ResolvedName, ...]) -> None:
        """FEED shows these names of the route. They count unless a fact of the route is known."""
        key = FactKey(account, "route", route, "resolution")
        known = route in self.resolutions(account) or (key in self._standing and key not in self._ahead)
        if not known and self._is_route(key):
            self._show(key, names)

    def folded(self) -> None:
        """The fold has grown."""
        for key, fact in list(self._ahead.items()):
            if fact.revision <= self._fold.intent.sequence:
                del self._ahead[key]
                self._show(key, fact.names)

    def begin(self) -> None:
        self._found = set()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_fact(subject)
            fact = decode(subject, data, ResolutionFact)
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note(subjects.FACT_RESOLUTIONS, problem)
            return
        if self._found is not None:
            self._found.add(key)
        self._standing.add(key)
        self._ahead.pop(key, None)
        if fact.revision > self._fold.intent.sequence:
            self._ahead[key] = fact
        else:
            self._show(key, fact.names)

    def caught_up(self) -> None:
        """Forget the names of deleted routes that the snapshot did not bring."""
        found, self._found = self._found or set(), None
        self._standing = set(found)
        shown = {
            FactKey(account, "route", route, "resolution") for account, held in self._names.items() for route in held
        }
        for key in shown - found:
            if not self._is_route(key):
                self._show(key, ())
        for key in self._ahead.keys() - found:
            del self._ahead[key]
        self._known.set()

    def _is_route(self, key: FactKey) -> bool:
        state = self._fold.intent.accounts.get(key.account)
        return state is not None and key.id in state.routes

    def _show(self, key: FactKey, names: tuple[ResolvedName, ...]) -> None:
        held = self._names[key.account]
        if held.get(key.id, ()) == names:
            return
        if names:
            held[key.id] = names
        else:
            del held[key.id]
        self.on_change(key.account, key.id)
