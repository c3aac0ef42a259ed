"""What a table of kernel objects is: how its entries are compared, made, removed and read."""

from collections.abc import Callable, Iterable, Mapping
from operator import eq
from typing import Any, TypeAlias, TypeVar

import msgspec

from services.agent.core.desired_state import Desired, Observed
from services.agent.core.reconcile.delta import Delta, delta
from services.agent.core.reconcile.steps import Delete, Kind, Step, Upsert

T = TypeVar("T")


class Comparison:
    """A desired and an observed state side by side.

    resets: public keys of peers to remove and add anew. originals: values of settings before the agent changed them,
    path → value.
    """

    def __init__(
        self, desired: Desired, observed: Observed, resets: Iterable[str], originals: Mapping[str, str]
    ) -> None:
        self.desired = desired
        self.observed = observed
        self.resets = tuple(resets)
        self.originals = originals
        self._known: dict[object, Any] = {}

    def once(self, function: "Callable[[Comparison], T]") -> T:
        """What the function makes of this comparison; computed once, as both halves of a plan ask for it."""
        if function not in self._known:
            self._known[function] = function(self)
        found: T = self._known[function]
        return found


Steps: TypeAlias = Callable[["Table", Comparison], tuple[Step, ...]]
"""The steps of one table in one direction; empty ones are left out of the plan."""


class Table(msgspec.Struct, frozen=True):
    """One kind of kernel object.

    kind: its name in steps, in `pending` and in metrics. field: of Desired and Observed, where its entries are, key →
    value. make, remove: its steps while a plan opens, and while it closes. same: (desired, observed) → whether the
    entry is as it shall be. read_with: another kind whose reading brings this one's entries along. dirty_with: other
    kinds, and changes of the host (ports.HostChange), after which this kind may read differently as well.
    """

    kind: Kind
    field: str
    make: Steps
    remove: Steps
    same: Callable[[Any, Any], bool] = eq
    read_with: Kind = ""
    dirty_with: tuple[str, ...] = ()

    def delta(self, comparison: Comparison) -> Delta[Any, Any]:
        """What differs between the two states."""
        return delta(getattr(comparison.desired, self.field), getattr(comparison.observed, self.field), self.same)


def upserts(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """Make what is missing or differs."""
    return (Upsert(table.kind, comparison.once(table.delta).upserts, opens=True),)


def deletes(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """Remove what is too much, whatever else failed."""
    return (Delete(table.kind, comparison.once(table.delta).deletes, opens=False),)


def deletes_if_open(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """Remove what is too much, unless the ruleset failed."""
    return (Delete(table.kind, comparison.once(table.delta).deletes, opens=True),)


def nothing(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """No step."""
    return ()
