"""Failures of the signal service, named after the remedy."""

from typing import Literal, TypeAlias

Reason: TypeAlias = Literal["too-large", "too-many"]


class Withheld(Exception):
    """Send smaller or fewer signals: this one is not delivered. The sender is not told, as if it were lost."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(Exception):
    """The bus takes nothing at the moment: `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
