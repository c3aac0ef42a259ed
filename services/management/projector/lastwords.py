"""What was heard last of each peer: by signal, and by its own agent as far as the leases do not say otherwise."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from services.management.core.feed.unit import LastWord
from services.management.core.feed.units.presence import in_a_line
from services.management.core.leases import lease_of
from services.management.ports import Fold
from services.management.projector.holders import Holders
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import PresenceDoc, Withdrawn
from shared.events.facts import SHORT, CandidacyFact, SessionFact
from shared.events.subjects import BadSubject

THERE, AWAY = LastWord(agent=True), LastWord(agent=False)
"""What is known of nearly every peer, as one object each."""

MOST_ROUTES = 4096
"""Entries kept of a list in a fact, of those that can be about a route."""


class FactOfPeer(Protocol):
    @property
    def peer_id(self) -> str: ...


F = TypeVar("F", bound=FactOfPeer)


class LastWords:
    """Follows session and candidacy facts, of every peer: any of them may serve a route after the next commit.

    What was said last holds until something newer is said: a fact that is lost, or comes after a newer one, changes
    nothing. Only that it holds a return address does not count once another one has the lease: a holder that is cut off
    does not take it back. on_change: called with account and peer whenever `of` says something else about them.
    """

    def __init__(self, fold: Fold, undecodables: Undecodables) -> None:
        self.on_change: Callable[[str, str], None] = lambda _account, _peer: None
        self._fold = fold
        self._words: dict[str, dict[str, LastWord]] = defaultdict(dict)
        self._kept: dict[tuple[str, str], LastWord] = {}
        self._claiming: dict[str, set[str]] = defaultdict(set)
        self.holders = Holders(undecodables, self._changed_hands)
        self.sessions = Newest(SessionFact, subjects.FACT_SESSIONS, _of_session, fold, undecodables, self._news)
        self.candidacies = Newest(
            CandidacyFact, subjects.FACT_CANDIDACIES, _of_candidacy, fold, undecodables, self._news
        )

    async def known(self) -> None:
        """Return once all facts were read."""
        await self.sessions.known.wait()
        await self.candidacies.known.wait()
        await self.holders.known.wait()

    def of(self, account: str) -> Mapping[str, LastWord]:
        return self._words.get(account, {})

    def keep(self, account: str, peer: str, shown: PresenceDoc) -> None:
        """FEED shows this of the peer. It counts as far as no fact is known.

        Whether it was draining does not: the document does not say who asked for that.
        """
        state = self._fold.intent.accounts.get(account)
        if state is None or peer not in state.peers:
            return
        word = LastWord(agent=shown.agent, withdrawn=shown.withdrawn, holds=shown.holds)
        self._kept[account, peer] = word
        self._news(account, peer)

    def _changed_hands(self, account: str) -> None:
        for peer in list(self._claiming[account]):
            self._news(account, peer)

    def _news(self, account: str, peer: str) -> None:
        words, word = self._words[account], self._word(account, peer)
        if words.get(peer) == word:
            return
        if word:
            words[peer] = word
        else:
            del words[peer]
        self.on_change(account, peer)

    def _word(self, account: str, peer: str) -> LastWord | None:
        session, candidacy = self.sessions.of(account, peer), self.candidacies.of(account, peer)
        kept = self._kept.get((account, peer))
        said = candidacy or kept
        if session is None and said is None:
            return None
        # An agent that says what it carries is there, if signal never said anything of it.
        there = session.connected if session else kept.agent if kept else True
        holds = self._held(account, peer, said.holds) if said else ()
        if said is None or not (said.draining or said.withdrawn or holds):
            return THERE if there else AWAY
        return LastWord(agent=there, draining=said.draining, withdrawn=said.withdrawn, holds=holds)

    def _held(self, account: str, peer: str, routes: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the routes whose lease nobody else has."""
        (self._claiming[account].add if routes else self._claiming[account].discard)(peer)
        state = self._fold.intent.accounts.get(account)
        known = {id: state.routes[id] for id in routes if id in state.routes} if state else {}
        lost = {id for id, one in known.items() if self.holders.of(account, lease_of(one)) not in ("", peer)}
        return tuple(id for id in routes if id not in lost)


def _of_session(fact: SessionFact, known: SessionFact | None) -> SessionFact | None:
    return fact if known is None or fact.epoch >= known.epoch else None


def _of_candidacy(fact: CandidacyFact, known: CandidacyFact | None) -> CandidacyFact | None:
    """Any peer may write as much as a message holds, and most of it may be about nothing."""
    if known and (fact.epoch, fact.number) <= (known.epoch, known.number):
        return None
    withdrawn = tuple(
        Withdrawn(entry.route_id, in_a_line(entry.reason))
        for entry in fact.withdrawn[:MOST_ROUTES]
        if len(entry.route_id) <= SHORT
    )
    holds = tuple(route_id for route_id in fact.holds[:MOST_ROUTES] if len(route_id) <= SHORT)
    return replace(fact, withdrawn=withdrawn, holds=holds)


class Newest(Generic[F]):
    """The newest fact of one kind of each peer, followed by shared.bus.lastvalues.

    newer: of a fact that came and the one that is known, what is to be kept instead of that, None to leave it.
    on_news: called with account and peer. known: set once all were read.
    """

    def __init__(
        self,
        kind: type[F],
        pattern: str,
        newer: Callable[[F, F | None], F | None],
        fold: Fold,
        undecodables: Undecodables,
        on_news: Callable[[str, str], None],
    ) -> None:
        self.pattern = pattern
        self.known = asyncio.Event()
        self._kind: type[F] = kind
        self._newer: Callable[[F, F | None], F | None] = newer
        self._fold = fold
        self._undecodables = undecodables
        self._on_news = on_news
        self._facts: dict[str, dict[str, F]] = defaultdict(dict)
        self._found: set[tuple[str, str]] | None = None

    def of(self, account: str, peer: str) -> F | None:
        return self._facts[account].get(peer)

    def begin(self) -> None:
        self._found = set()

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            key = subjects.parse_fact(subject)
            fact = decode(subject, data, self._kind)
            if fact.peer_id != key.id:
                raise Undecodable(subject, "a fact of another peer")
        except (BadSubject, Undecodable) as problem:
            self._undecodables.note(self.pattern, problem)
            return
        if self._found is not None:
            self._found.add((key.account, key.id))
        facts = self._facts[key.account]
        kept = self._newer(fact, facts.get(key.id))
        if kept is not None:
            facts[key.id] = kept
            self._on_news(key.account, key.id)

    def caught_up(self) -> None:
        """Forget what the snapshot did not bring of peers that are no more; that of others was lost, and holds."""
        found, self._found = self._found or set(), None
        for account, facts in self._facts.items():
            state = self._fold.intent.accounts.get(account)
            for peer in [peer for peer in facts if (account, peer) not in found]:
                if state is None or peer not in state.peers:
                    del facts[peer]
                    self._on_news(account, peer)
        self.known.set()
