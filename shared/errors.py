"""Failures that more than one service meets, named after the remedy."""

from pathlib import Path


class CorruptFile(Exception):
    """Put the file right or remove it: `path` holds something unreadable."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class NoRoom(Exception):
    """Make room on the disk of `path`, which is full: what was to be written there is not."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} cannot be written, its disk is full: make room there")
        self.path = path


class Taken(Exception):
    """Free it or choose another: a port or a directory that somebody else uses. `what` names it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} is in use: {remedy}")
        self.what = what


class BusUnavailable(Exception):
    """Start the bus or correct its address: nothing answers at `url`."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"bus {url}: {problem}")
        self.url = url


class NotStarted(Exception):
    """Put right what it says: the process `what` ended before it was ready, its last line was `said`."""

    def __init__(self, what: str, said: str, log: Path) -> None:
        super().__init__(f"{what} did not start: {said or 'it said nothing'} (see {log})")
        self.what = what
        self.said = said


class Undecodable(Exception):
    """Drop the message and count it: what stands on `subject` is not of its type."""

    def __init__(self, subject: str, problem: str) -> None:
        super().__init__(f"undecodable message on {subject}: {problem}")
        self.subject = subject


class BadSetting(Exception):
    """Correct the setting: `option` names it as people write it. The message never holds the value."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option = option
        self.problem = problem
