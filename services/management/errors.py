"""Refusals and failures of management, named after the remedy."""

from collections.abc import Sequence

from shared.events.signals import EnrolReason


class Refusal(Exception):
    """A request that must not be done. `message` is one line for a person. Nothing was changed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(Refusal):
    """Correct the request: a field's value breaks a rule (HTTP 422)."""


class Unknown(Refusal):
    """Ask for something that exists (HTTP 404)."""


class AlreadyThere(Refusal):
    """Choose another value: something else has it (HTTP 409)."""


class InUse(Refusal):
    """Detach it first: others refer to it (HTTP 412, decision R10)."""


class Unsuitable(Refusal):
    """Choose one that can do it: what was named exists, but lacks what this needs (HTTP 412, decision R11)."""


class NotEnrolled(Refusal):
    """Enrol with another setup key, or correct the request: `reason` says which. Never part of an HTTP answer."""

    def __init__(self, reason: EnrolReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(Refusal):
    """Ask somebody whose role allows it (HTTP 403)."""


class Stale(Refusal):
    """Read again and decide again: the account has changed since (HTTP 412, If-Match)."""


class Contended(Refusal):
    """Try again: other writers won every try (HTTP 409)."""


class RetryLater(Exception):
    """The bus did not answer within `waited_s` seconds (HTTP 503). Whether the change was taken is unknown."""

    def __init__(self, what: str, waited_s: float) -> None:
        super().__init__(f"{what}: no answer within {waited_s:g} s, try again later")
        self.what = what
        self.waited_s = waited_s


class ChangesRefused(Exception):
    """Put right what `lines` say: until then no change is taken (HTTP 503). Nothing was changed."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(f"no change is taken: {'; '.join(lines)}")
        self.lines = tuple(lines)


class NotServing(Exception):
    """Put right what `lines` say, or wait: until then nothing is answered (HTTP 503)."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class LogChanged(Exception):
    """Start again: the log is not the one that was folded. It was put right, or what it lost is lost for good."""


class NotRestored(Exception):
    """Do what the message says: a backup could not be made or restored as it stands."""


class RaceLost(Exception):
    """Reload up to `sequence` and decide again."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"another writer committed up to {sequence}")
        self.sequence = sequence


def names(things: Sequence[str]) -> str:
    """A short list for a message: at most three, then how many more."""
    shown = ", ".join(things[:3])
    return shown if len(things) <= 3 else f"{shown} and {len(things) - 3} more"
