"""What keeps this replica from taking changes, or from serving at all, and why."""

import time
from collections.abc import Callable, Sequence

import structlog

from services.management.errors import ChangesRefused, NotServing
from services.management.ports import PATIENCE_S

START = "start"
"""The cause of what keeps a replica from being ready."""

log = structlog.get_logger()


class Troubles:
    """Troubles by cause, one line each that says what to do. Whoever finds one tells when it arises and when it ends.

    Reads, admission and whatever hosts do go on as long as every trouble lets them: `serves` of `arise`.
    alone: lines of what is this replica's own and may be over at any moment, asked for each time; they are shown, and
    nothing is refused for them. starting: there is one from the beginning, START. clock: monotonic seconds.
    """

    def __init__(
        self,
        alone: Callable[[], Sequence[str]] = tuple,
        *,
        starting: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alone = alone
        self._clock = clock
        self._lines: dict[str, str] = {START: "it is starting"} if starting else {}
        self._refused_from: dict[str, float] = dict.fromkeys(self._lines, clock())
        self._stops_serving: set[str] = set(self._lines)

    def arise(self, cause: str, line: str, *, serves: bool = True, passing: bool = False) -> None:
        """No change is taken until `end(cause)`; without `serves` nothing is answered either. Repeating it is free.

        passing: it is often over by itself. Changes wait for that, until it has lasted PATIENCE_S.
        """
        refused_from = self._clock() + (PATIENCE_S if passing else 0.0)
        self._refused_from[cause] = min(refused_from, self._refused_from.get(cause, refused_from))
        if self._lines.get(cause) != line:
            log.error("trouble", cause=cause, problem=line)
        self._lines[cause] = line
        (self._stops_serving.discard if serves else self._stops_serving.add)(cause)

    def end(self, cause: str) -> None:
        """It is over. Nothing happens when there was none."""
        self._stops_serving.discard(cause)
        self._refused_from.pop(cause, None)
        if self._lines.pop(cause, None) is not None:
            log.info("trouble over", cause=cause)

    @property
    def lines(self) -> Sequence[str]:
        """All of them, oldest first."""
        return tuple(dict.fromkeys((*self._lines.values(), *self._alone())))

    @property
    def serves(self) -> bool:
        """Whether reads are answered."""
        return not self._stops_serving

    @property
    def ready(self) -> bool:
        """Whether reads are answered here as well as anywhere."""
        return self.serves and not self._alone()

    def require_changeable(self) -> None:
        """Raises ChangesRefused while there is a trouble that does not pass by itself, or has not for a while."""
        now = self._clock()
        if any(refused_from <= now for refused_from in self._refused_from.values()):
            raise ChangesRefused(tuple(self._lines.values()))

    def require_serving(self) -> None:
        """Raises NotServing while there is a trouble that lets nothing be answered."""
        if self._stops_serving:
            raise NotServing([self._lines[cause] for cause in self._lines if cause in self._stops_serving])
