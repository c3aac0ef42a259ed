"""What every command takes and gives.

A command is `decide(state, …, context) -> Decision`: pure, and decided again from scratch when another writer was
faster. It raises a Refusal (services/management/errors.py) when the request must not be done.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from services.management.core.entities import Entity, Ref
from services.management.core.model.commit import Activity, Actor, Commit

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


def changed(
    context: Context,
    account: str,
    result: T,
    activities: Sequence[Activity],
    *,
    upserts: Sequence[Entity] = (),
    deletes: Sequence[Ref] = (),
) -> Decision[T]:
    """A decision that changes the account, in the name of the context's actor. activities: at least one."""
    commit = Commit(
        account=account,
        at=context.now,
        actor=context.actor,
        activities=tuple(activities),
        upserts=tuple(upserts),
        deletes=tuple(deletes),
    )
    return Decision(commit, result)


def unchanged(result: T) -> Decision[T]:
    """A decision that leaves the account as it is: no commit, no activity."""
    return Decision(None, result)
