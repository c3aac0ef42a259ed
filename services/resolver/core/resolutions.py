"""The addresses of every route's names, and which facts have to be written for them."""

from collections import defaultdict
from collections.abc import Mapping

from services.resolver.core.answers import Answer, KeepLimits, alike, fold, merged, restored, succeeded
from services.resolver.core.questions import Question, question
from services.resolver.core.routes import Gone, RouteKey, Wanted
from shared.events.documents import ROUTING_PEER, ResolvedAddress, ResolvedName, ResolvingDoc
from shared.events.facts import ResolutionFact
from shared.events.subjects import ResolvedKey


class Resolutions:
    """Routes, answers and the facts of others in; facts to write out. `now` is in unix seconds.

    A name that several routes share is one name to ask for; what is kept of it is each route's own affair. One that
    does not lead asks for nothing and writes nothing: it follows the facts of the one that does, to go on from there.
    """

    def __init__(self, limits: KeepLimits) -> None:
        self._limits = limits
        self._routes: dict[RouteKey, Wanted] = {}
        self._gone: dict[RouteKey, int] = {}
        """Routes that ended, with the revision to say it with, until the facts say so too."""
        self._users: dict[Question, set[RouteKey]] = defaultdict(set)
        self._accounts: Mapping[str, ResolvingDoc] = {}
        self._accounts_known = False
        self._sources: dict[RouteKey, dict[str, str]] = {}
        self._held: dict[RouteKey, dict[str, tuple[ResolvedAddress, ...]]] = {}
        self._facts: dict[RouteKey, ResolutionFact] = {}
        self._dirty: set[RouteKey] = set()
        self._all_routes_known = False
        self._leads = False

    def lead(self, leads: bool, now: float) -> None:
        """From now on it leads, or follows. The facts are what those that led before have found."""
        if leads and not self._leads:
            for key in self._facts.keys() & self._routes.keys():
                self._adopt(key, self._facts[key], now, from_the_past=False)
            self._dirty.update(self._facts, self._routes)
        self._leads = leads

    def chosen(self, accounts: Mapping[str, ResolvingDoc]) -> None:
        """Whom accounts want asked: nobody else's answers count for their names. Before that nobody is asked."""
        self._accounts_known = True
        if accounts == self._accounts:
            return
        self._accounts = dict(accounts)
        self._users.clear()
        for key, route in self._routes.items():
            self._use(key, route)

    def questions(self) -> list[Question]:
        """Everything to ask, each once; names of a route stand together, so that its fact is not written for each."""
        return list(self._users) if self._leads and self._accounts_known else []

    def answering_peers(self) -> set[ResolvedKey]:
        """Routing peers that answered last for some name."""
        return {
            ResolvedKey(key.account, source.removeprefix(ROUTING_PEER))
            for key, sources in self._sources.items()
            for source in sources.values()
            if source.startswith(ROUTING_PEER)
        }

    def route(self, key: RouteKey, change: Wanted | Gone, now: float) -> None:
        """The route is new, different or gone."""
        before = self._routes.pop(key, None)
        if before is not None:
            self._unuse(key, before)
        held, sources = self._held.pop(key, {}), self._sources.pop(key, {})
        if isinstance(change, Gone):
            self._gone[key] = change.revision
        else:
            self._gone.pop(key, None)
            self._routes[key] = change
            self._held[key] = {name: held[name] for name in change.names if name in held}
            self._sources[key] = {name: sources[name] for name in change.names if name in sources}
            self._use(key, change)
            if before is None and key in self._facts:
                self._adopt(key, self._facts[key], now, from_the_past=True)
        self._dirty.add(key)

    def answer(self, asked: Question, answer: Answer, now: float) -> None:
        """A look-up ended."""
        name = asked.name
        for key in self._users.get(asked, ()):
            held = self._held[key]
            if not answer.empty:
                self._sources[key][name] = answer.source
            held[name] = fold(held.get(name, ()), answer, keep=self._routes[key].keep, now=now, limits=self._limits)
            self._dirty.add(key)

    def begin(self) -> None:
        """The facts are read anew."""
        self._facts.clear()

    def fact(self, key: RouteKey, fact: ResolutionFact, now: float, *, from_the_past: bool) -> None:
        """What another replica, or this service before it was restarted, wrote.

        from_the_past: it stood there before; an answer that we have had meanwhile is newer.
        """
        self._remember(key, fact)
        if key in self._routes:
            self._adopt(key, fact, now, from_the_past=from_the_past)
        self._dirty.add(key)

    def all_routes_known(self) -> None:
        """From now on a fact that no route wants is to be ended, also one whose route was never seen."""
        self._all_routes_known = True
        self._dirty.update(self._facts)

    def caught_up(self) -> None:
        """All facts are known: what is missing there is to be written, what no route wants is to be ended."""
        self._dirty.update(self._facts, self._routes)

    def pending(self) -> list[tuple[RouteKey, ResolutionFact]]:
        """The facts to write, until `written` says that they are."""
        if not self._leads:
            return []
        facts = [(key, fact) for key in sorted(self._dirty) if (fact := self._news(key)) is not None]
        self._dirty = {key for key, _ in facts}
        return facts

    def written(self, key: RouteKey, fact: ResolutionFact) -> None:
        """The fact is on the bus."""
        self._remember(key, fact)

    def _use(self, key: RouteKey, route: Wanted) -> None:
        for name in route.names:
            self._users[question(key, route, name, self._accounts)].add(key)

    def _unuse(self, key: RouteKey, route: Wanted) -> None:
        for name in route.names:
            asked = question(key, route, name, self._accounts)
            self._users[asked].discard(key)
            if not self._users[asked]:
                del self._users[asked]

    def _remember(self, key: RouteKey, fact: ResolutionFact) -> None:
        if fact.names:
            self._facts[key] = fact
        else:
            self._facts.pop(key, None)
            self._gone.pop(key, None)

    def _news(self, key: RouteKey) -> ResolutionFact | None:
        if key not in self._routes and key not in self._gone and not self._all_routes_known:
            return None
        known = self._facts.get(key)
        sources = self._sources.get(key, {})
        names = tuple(
            ResolvedName(name, held, sources.get(name, ""))
            for name, held in sorted(self._held.get(key, {}).items())
            if held
        )
        if _alike(known.names if known else (), names):
            return None
        if key in self._routes:
            revision = self._routes[key].revision
        else:
            revision = self._gone.get(key, known.revision if known else 0)
        return ResolutionFact(route_id=key.route_id, revision=revision, names=names)

    def _adopt(self, key: RouteKey, fact: ResolutionFact, now: float, *, from_the_past: bool) -> None:
        """Of names with keep nothing that either side knows is lost; others take the newer answer. Who follows has no
        answers of its own that could be newer."""
        route, held = self._routes[key], self._held[key]
        for theirs in fact.names:
            if theirs.name not in route.names:
                continue
            addresses = restored(theirs.addresses, now)
            if not from_the_past or not self._leads or theirs.name not in held:
                self._sources[key][theirs.name] = theirs.source
            if route.keep and self._leads:
                held[theirs.name] = merged(held.get(theirs.name, ()), addresses, self._limits)
            elif route.keep:
                held[theirs.name] = succeeded(held.get(theirs.name, ()), addresses, now, self._limits)
            elif not from_the_past or not self._leads or theirs.name not in held:
                held[theirs.name] = addresses


def _alike(one: tuple[ResolvedName, ...], other: tuple[ResolvedName, ...]) -> bool:
    if [each.name for each in one] != [each.name for each in other]:
        return False
    pairs = list(zip(one, other, strict=True))
    return all(alike(a.addresses, b.addresses) and _from_a_peer(a) == _from_a_peer(b) for a, b in pairs)


def _from_a_peer(name: ResolvedName) -> bool:
    """One server for another is no news: all that it answered for would be written anew when it dies."""
    return name.source.startswith(ROUTING_PEER)
