"""What the kernel holds of ours, as last read, and how plans are carried out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from services.agent.core.desired_state import Observed
from services.agent.core.firewall.ruleset import Elements, Replace
from services.agent.core.reconcile.steps import (
    RULESET,
    Delete,
    Destroy,
    Entry,
    Kind,
    Step,
    Upsert,
    entries,
    kind_of,
    without,
)
from services.agent.core.reconcile.tables import KINDS, TABLES, dirtied
from services.agent.loop import table
from services.agent.ports import Driver, RulesetDriver

WAITS = "waits for the ruleset"

Blocked: TypeAlias = Callable[[Entry, Any], str]
"""Takes an entry and the value it is to get; says why it is not tried now, "" when it is."""


class Drivers(NamedTuple):
    """ruleset: of nftables. others: of every other kind in TABLES."""

    ruleset: RulesetDriver
    others: Mapping[Kind, Driver[Any, Any]]

    def of(self, kind: Kind) -> Driver[Any, Any] | RulesetDriver:
        """Who reads this kind."""
        return self.ruleset if kind == RULESET[0] else self.others[kind]


class Kernel:
    """`observed` is what was read; kinds that may have changed since are dirty and read anew by `observe`."""

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers
        self._dirty = set(dirtied(KINDS))
        self.observed = Observed()

    @property
    def is_dirty(self) -> bool:
        """Whether anything is to be read anew."""
        return bool(self._dirty)

    def dirty(self, changed: Iterable[str] = KINDS) -> None:
        """These kinds or these things of the host may have changed."""
        self._dirty |= dirtied(changed)

    async def observe(self) -> bool:
        """Read what is dirty; gives whether anything was. Raises OSError when it cannot be read, and is dirty still."""
        if not self._dirty:
            return False
        kinds, self._dirty = self._dirty, set()
        for kind in KINDS:
            if kind not in kinds:
                continue
            try:
                await self._read(kind)
            except BaseException:
                self._dirty |= kinds
                raise
            kinds.discard(kind)
        return True

    async def _read(self, kind: Kind) -> None:
        found = {
            one.field: await self._drivers.of(one.kind).observe() for one in TABLES if kind in (one.kind, one.read_with)
        }
        self.observed = replace(self.observed, **found)

    async def apply(self, steps: Iterable[Step], blocked: Blocked) -> dict[Entry, str]:
        """Carry out a plan; what was touched is dirty afterwards. Entry → why it was not done.

        A ruleset that failed keeps shut whatever would open.
        """
        errors: dict[Entry, str] = {}
        for step in steps:
            self.dirty((kind_of(step),))
            if isinstance(step, Upsert | Delete) and step.opens and RULESET in errors:
                errors |= dict.fromkeys(entries(step), WAITS)
                continue
            held_back = {entry: reason for entry, value in entries(step).items() if (reason := blocked(entry, value))}
            errors |= held_back
            if rest := without(step, held_back):
                errors |= await self._carry_out(rest)
        return errors

    async def _carry_out(self, step: Step) -> dict[Entry, str]:
        ruleset, others = self._drivers
        match step:
            case Replace() | Elements():
                return _table(await table.write(ruleset, step.ruleset, self.observed.ruleset))
            case Destroy():
                return _table(await ruleset.destroy())
            case Upsert():
                return _named(step.kind, await others[step.kind].upsert(step.entries))
            case Delete():
                return _named(step.kind, await others[step.kind].delete(step.keys))


def _table(error: str | None) -> dict[Entry, str]:
    return {RULESET: error} if error else {}


def _named(kind: Kind, errors: Mapping[Any, str]) -> dict[Entry, str]:
    return {(kind, key): error for key, error in errors.items()}
