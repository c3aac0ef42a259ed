"""What every command takes and gives.

A command is `decide(state, …, context) -> Decision`: pure, and decided again from scratch when another writer was
faster. It raises a Refusal (services/management/errors.py) when the request must not be done.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from services.management.core.model.commit import Actor, Commit

T = TypeVar("T")


class Context(msgspec.Struct, frozen=True):
    """now: unix seconds. actor: who asks. new_id: gives a new xid with each call."""

    now: float
    actor: Actor
    new_id: Callable[[], str]


class Decision(msgspec.Struct, Generic[T], frozen=True):
    """commit: what to append to the log, None when nothing would change. result: what the caller asked for."""

    commit: Commit | None
    result: T
