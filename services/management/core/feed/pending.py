"""Which units of the feed have to be looked at, and which of them first.

A change is seen at once however much else is being written: what a commit touched that touches few units comes before
what a large one did. Of a large one, rules and routes that are no more come first, then everything that is new or
changed (peers before the rules and routes that name them), then what is withdrawn from somewhere.

A unit is computed when its turn comes, from the state as it is then; so a later look never gives something older.
"""

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple

from services.management.core.feed.published import Published, Write
from services.management.core.feed.unit import Documents, Unit
from services.management.core.feed.units import UNITS

FEW = 100
"""Units that a commit touches and that are written before anything of a larger one."""

_WITHDRAWN_FIRST = frozenset(kind.name for kind in UNITS if kind.withdrawn_first)


class Stage(IntEnum):
    """How to look at a unit. GONE: withdraw it if it has no documents any more. ADD: write what is new or changed.
    UPDATE: withdraw the rest."""

    GONE = 0
    ADD = 1
    UPDATE = 2


class Look(NamedTuple):
    account: str
    unit: Unit
    stage: Stage


_Place = tuple[str, Unit]


class Lane:
    """Units of several accounts, each once, in the order of stages and kinds."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Stage, str], dict[_Place, None]] = {
            (stage, kind.name): {} for stage in Stage for kind in UNITS
        }
        self._stages: dict[_Place, Stage] = {}
        self._since = 0

    def __len__(self) -> int:
        return len(self._stages)

    def __contains__(self, place: _Place) -> bool:
        return place in self._stages

    @property
    def since(self) -> int:
        """What is here was put for this LOG sequence or for a later one."""
        return self._since

    def put(self, place: _Place, stage: Stage, sequence: int) -> None:
        self._since = min(self._since, sequence) if self._stages else sequence
        self.drop(place)
        self._stages[place] = stage
        self._waiting[stage, place[1].kind][place] = None

    def later(self, look: Look, stage: Stage) -> None:
        """Look once more, at that stage; the first look has not finished the unit."""
        self.put((look.account, look.unit), stage, self._since)

    def drop(self, place: _Place) -> None:
        stage = self._stages.pop(place, None)
        if stage is not None:
            del self._waiting[stage, place[1].kind][place]

    def take(self) -> Look | None:
        """The next one, or None when there is none."""
        for (stage, _), places in self._waiting.items():
            if places:
                place, _ = places.popitem()
                del self._stages[place]
                return Look(*place, stage)
        return None


class Pending:
    """urgent: what small changes touched, up to `few` units each. bulk: everything else. A unit is in one of them."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self.urgent = Lane()
        self.bulk = Lane()

    def __bool__(self) -> bool:
        return bool(self.urgent or self.bulk)

    def mark(self, account: str, touched: Collection[Unit], sequence: int) -> None:
        """Have the units looked at. sequence: of the commit that touched them."""
        for place in ((account, unit) for unit in touched):
            if len(touched) <= self._few or place in self.urgent:
                self.bulk.drop(place)
                self.urgent.put(place, Stage.ADD, sequence)
            else:
                stage = Stage.GONE if place[1].kind in _WITHDRAWN_FIRST else Stage.ADD
                self.bulk.put(place, stage, sequence)

    @property
    def since(self) -> int | None:
        """Every commit before this LOG sequence has nothing left here; None when there is nothing at all."""
        return min((lane.since for lane in (self.urgent, self.bulk) if lane), default=None)


def look_at(published: Published, lane: Lane, look: Look, desired: Documents) -> list[Write]:
    """The writes of one look, taken over by `published`. desired: the documents that the unit should have now. The lane
    gets back the part of the look that is still to be done."""
    account, unit, stage = look
    if stage is Stage.UPDATE:
        return published.update(account, {unit: desired})
    if stage is Stage.GONE:
        if not desired:
            return published.withdraw(account, unit)
        lane.later(look, Stage.ADD)
        return []
    writes, something_else = published.add(account, unit, desired)
    if something_else:
        lane.later(look, Stage.UPDATE)
    return writes
