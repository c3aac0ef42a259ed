"""What happens to a message that cannot be decoded: counted, logged once per subject, dropped."""

import structlog

from shared.errors import Undecodable
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY, Counter

SUBJECTS_REMEMBERED = 1_000
"""Logged subjects kept per process. A sender chooses part of its subjects, so the memory of them is bounded."""

log = structlog.get_logger()

_count = Counter(
    "whimbrel_undecodable_messages", "Messages on the bus that could not be decoded", ["pattern"], registry=REGISTRY
)


class Undecodables:
    """Notes messages that had to be dropped. The caller terminates those that would be delivered again."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def note(self, pattern: str, problem: Undecodable | BadSubject) -> None:
        """Count the message; log it if it is the first on its subject.

        pattern: what the reader subscribed to, a stream's name or a subject with wildcards; the metric's label.
        """
        _count.labels(pattern).inc()
        if problem.subject in self._logged or len(self._logged) > SUBJECTS_REMEMBERED:
            return
        self._logged.add(problem.subject)
        if len(self._logged) > SUBJECTS_REMEMBERED:
            log.warning("undecodable messages on more subjects, from now on only counted", pattern=pattern)
            return
        log.warning("undecodable message dropped", pattern=pattern, subject=problem.subject, problem=str(problem))
