"""What keeps this replica from taking changes, or from serving at all, and why."""

from collections.abc import Callable, Sequence

import structlog

from services.management.errors import ChangesRefused, NotServing

log = structlog.get_logger()


class Troubles:
    """Troubles by cause, one line each that says what to do. Whoever finds one tells when it arises and when it ends.

    Reads, admission and whatever hosts do go on as long as every trouble lets them: `serves` of `arise`.
    passing: lines of what may be over before a writer loses patience; they are shown, and nothing is refused for them.
    """

    def __init__(self, passing: Callable[[], Sequence[str]] = tuple) -> None:
        self._passing = passing
        self._lines: dict[str, str] = {}
        self._stops_serving: set[str] = set()

    def arise(self, cause: str, line: str, *, serves: bool = True) -> None:
        """No change is taken until `end(cause)`; without `serves` nothing is answered either. Repeating it is free."""
        if self._lines.get(cause) != line:
            log.error("trouble", cause=cause, problem=line)
        self._lines[cause] = line
        (self._stops_serving.discard if serves else self._stops_serving.add)(cause)

    def end(self, cause: str) -> None:
        """It is over. Nothing happens when there was none."""
        self._stops_serving.discard(cause)
        if self._lines.pop(cause, None) is not None:
            log.info("trouble over", cause=cause)

    @property
    def lines(self) -> Sequence[str]:
        """All of them, oldest first."""
        return (*self._lines.values(), *self._passing())

    @property
    def serves(self) -> bool:
        """Whether reads are answered."""
        return not self._stops_serving

    def require_changeable(self) -> None:
        """Raises ChangesRefused while there is a trouble that does not pass by itself."""
        if self._lines:
            raise ChangesRefused(tuple(self._lines.values()))

    def require_serving(self) -> None:
        """Raises NotServing while there is a trouble that lets nothing be answered."""
        if self._stops_serving:
            raise NotServing([self._lines[cause] for cause in self._lines if cause in self._stops_serving])
