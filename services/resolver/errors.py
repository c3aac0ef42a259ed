"""Failures of the resolver, named after the remedy."""


class RetryLater(Exception):
    """The bus takes nothing at the moment: `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
