"""A log in memory: the same promises as services/management/log.py towards whoever commits, without a bus."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from services.management.core.commands.decision import Decision
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState, Intent
from services.management.ports import NEWEST

T = TypeVar("T")


class FakeLog:
    """history: every accepted commit with its sequence, in order."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.history: list[tuple[int, Commit]] = []
        self._contenders: list[Commit] = []
        self._followers: list[Commit] = []
        self._failure: Exception | None = None

    async def commit(self, account: str, decide: Callable[[AccountState], Decision[T]], /) -> T:
        if self._failure:
            raise self._failure
        while True:
            decision = decide(self.intent.accounts[account])
            if decision.commit is None:
                return decision.result
            if not self._contenders:
                self._append(decision.commit)
                while self._followers:
                    self._append(self._followers.pop(0))
                return decision.result
            self._append(self._contenders.pop(0))

    async def events(
        self, account: str, limit: int, /, *, after: int = 0, before: int = NEWEST
    ) -> Sequence[tuple[int, Commit]]:
        wanted = (entry for entry in reversed(self.history) if entry[1].account == account)
        return [entry for entry in wanted if after < entry[0] < before][:limit]

    def race(self, *contenders: Commit) -> None:
        """Each of the contenders is committed between one of the next decisions and its commit."""
        self._contenders.extend(contenders)

    def follow(self, *contenders: Commit) -> None:
        """All of the contenders are committed after the next commit and before its caller goes on."""
        self._followers.extend(contenders)

    def fail(self, failure: Exception | None) -> None:
        """Answer every commit with `failure` from now on."""
        self._failure = failure

    def _append(self, commit: Commit) -> None:
        sequence = self.intent.sequence + 1
        self.intent.apply(sequence, commit)
        self.history.append((sequence, commit))
