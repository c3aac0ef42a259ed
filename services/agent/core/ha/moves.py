"""What people are told of as a switch: a decision to go elsewhere, once traffic does."""

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from services.agent.core.ha.standing import Switch
from services.agent.core.routing.hagroups import HaKey, where_of


class Moves:
    """Holds decisions back that wait for their moment (core/ha/handover.py)."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Switch] = {}

    def update(self, decided: Iterable[Switch], waiting: Collection[HaKey], wall: float) -> tuple[Switch, ...]:
        """The switches that have happened now. waiting: the sets that are to go elsewhere. wall: unix seconds.

        Of several decisions before the moment comes the last one happens, and one that was taken back does not.
        """
        made: list[Switch] = []
        waits = {(key[0], where_of(key)) for key in waiting}
        for one in decided:
            where = one.network_id, one.where
            held = self._held.pop(where, None)
            now = replace(one, former=held.former, former_name=held.former_name) if held is not None else one
            if now.former == now.now:
                continue
            if where in waits:
                self._held[where] = now
            else:
                made.append(now)
        for where in self._held.keys() - waits:
            made.append(replace(self._held.pop(where), at=wall))
        return tuple(made)
