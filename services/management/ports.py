"""What the parts of management need of each other. Wiring hands the implementations in."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from services.management.core.commands.decision import Decision
from services.management.core.state import AccountState, Change, Intent

T = TypeVar("T")

PATIENCE_S = 12.0
"""What may be over by itself is waited for this long: a cluster that lost the stream's leader takes no writes for
4 to 8 s (MEASUREMENTS.md, bus)."""

NEWEST = 2**63 - 1
"""Later than any LOG sequence."""


class TroublesPort(Protocol):
    """Where to tell what keeps changes from being taken (troubles.py)."""

    def arise(self, cause: str, line: str, *, serves: bool = True, passing: bool = False) -> None:
        """No change is taken until `end(cause)`; without `serves` nothing is answered either.

        passing: only once it has lasted PATIENCE_S.
        """

    def end(self, cause: str) -> None:
        """It is over."""


class CommitPort(Protocol):
    """Log.commit: decide, append to the log, and come back when the intent and the read model hold the commit.

    `decide` is called again with the newest state when another writer was faster. Its Refusals come through, and so do
    Contended and RetryLater. Gives the Decision's result. A Decision without a commit appends nothing.
    """

    def __call__(self, account: str, decide: Callable[[AccountState], Decision[T]], /) -> Awaitable[T]: ...


class FoldListener(Protocol):
    """Wants to know what each commit changed."""

    def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
        """Commit `sequence` of the account has just been folded into the intent.

        Called for every commit in LOG order, in the same step as `Intent.apply`: nothing is awaited in between, so that
        the intent is exactly at `sequence`. It must be quick and raises nothing.
        """


class Fold(Protocol):
    """This replica's fold of LOG, kept up to date by the read model."""

    @property
    def intent(self) -> Intent:
        """The one intent of the process. Never replaced by another object once `listen` was called."""

    @property
    def sequence(self) -> int:
        """LOG sequence up to which everything is folded in, or was dropped because it could not be decoded."""

    def listen(self, listener: FoldListener) -> None:
        """Tell `listener` of every commit from the next one on. What was folded before, it reads from the intent."""

    async def wait_for(self, sequence: int) -> None:
        """Return as soon as `self.sequence` is at least `sequence`. It waits as long as it takes."""


class NewestFold(Fold, Protocol):
    """A fold that can be asked to be as new as the log is now, whichever replica wrote last."""

    async def catch_up(self) -> None:
        """Return once everything the log holds now is folded in. Raises nats.errors.Error or TimeoutError."""
