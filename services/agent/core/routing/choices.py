"""Which of the routes offered to this host it uses.

People choose by network id. Without a choice every route is used, save for exit nodes that do not apply by themselves;
an exit node excludes every other (reference agent §7).
"""

from collections.abc import Iterable, Mapping

import msgspec

from services.agent.core.routing.hagroups import V4_EXIT, V6_EXIT, HaGroup

V6_SUFFIX = "-v6"
"""An IPv6 exit named like an IPv4 one with this suffix is its twin: one choice for both (reference agent §7)."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What people chose on this host, as kept on disk: network ids. Nothing chosen: every route, see `selected`.

    none: everything was deselected, also what will be offered later; choosing a network ends it.
    """

    selected: frozenset[str] = frozenset()
    deselected: frozenset[str] = frozenset()
    none: bool = False


class Choice(msgspec.Struct, frozen=True):
    """A selection, and what it means for the exit nodes there are.

    exits: network id of each exit node → the id both twins go by. exit_id: that of the exit node in use, if any.
    """

    selection: Selection
    exits: Mapping[str, str]
    exit_id: str | None

    def uses(self, network_id: str) -> bool:
        """Whether a network that is offered is used: nobody deselected it, or it is the exit node in use."""
        if self.selection.none:
            return False
        if network_id in self.exits:
            return self.exits[network_id] == self.exit_id
        return network_id not in self.selection.deselected


def choice(selection: Selection, groups: Iterable[HaGroup]) -> Choice:
    """The choice that a selection makes. groups: the offered HA groups; only the exit nodes among them matter.

    The exit node is the one people selected, else the first that applies by itself (skip_auto_apply is off).
    """
    groups = tuple(groups)
    return Choice(selection, exit_bases(groups), _chosen_exit(selection, groups))


def selected(selection: Selection, groups: Iterable[HaGroup]) -> frozenset[str]:
    """The network ids in use: all that nobody deselected, and of the exit nodes at most one with its twin."""
    groups = tuple(groups)
    made = choice(selection, groups)
    return frozenset(group.network_id for group in groups if made.uses(group.network_id))


def select(
    selection: Selection, groups: Iterable[HaGroup], ids: Iterable[str], *, append: bool
) -> tuple[Selection, tuple[str, ...]]:
    """The selection after `networks select`, and the ids that are not offered; with one of those nothing changes.

    append: add to the networks in use; otherwise every other network is deselected. Selecting an exit node deselects
    every other.
    """
    groups = tuple(groups)
    all_ids, exits = frozenset(group.network_id for group in groups), exit_bases(groups)
    known, unknown = _split(ids, all_ids, exits)
    if unknown:
        return selection, unknown
    chosen_exits = sorted({exits[network_id] for network_id in known if network_id in exits})
    others = {network_id for network_id, base in exits.items() if chosen_exits and base != chosen_exits[0]}
    deselected = selection.deselected | others if append else all_ids
    if selection.none and append:
        deselected |= all_ids
    return (
        Selection(
            selected=((selection.selected if append else frozenset()) | known) - others,
            deselected=deselected - (known - others),
        ),
        unknown,
    )


def deselect(selection: Selection, groups: Iterable[HaGroup], ids: Iterable[str]) -> tuple[Selection, tuple[str, ...]]:
    """The selection after `networks deselect`, and the ids that are not offered; with one of those nothing changes.

    Deselecting an exit node deselects all of them: whoever leaves one does not ask for the next.
    """
    groups = tuple(groups)
    exits = exit_bases(groups)
    known, unknown = _split(ids, frozenset(group.network_id for group in groups), exits)
    if unknown:
        return selection, unknown
    gone = known | (exits.keys() if known & exits.keys() else frozenset())
    return (
        Selection(selected=selection.selected - gone, deselected=selection.deselected | gone, none=selection.none),
        unknown,
    )


SELECT_ALL = Selection()
DESELECT_ALL = Selection(none=True)


def exit_bases(groups: Iterable[HaGroup]) -> dict[str, str]:
    """Network id of each exit node → the id both twins go by."""
    families: dict[str, set[str]] = {}
    for group in groups:
        if group.is_exit:
            families.setdefault(group.network_id, set()).add(group.network)
    return {
        network_id: base if _is_twin(network_id, base, families) else network_id
        for network_id in families
        for base in [network_id.removesuffix(V6_SUFFIX)]
    }


def _is_twin(network_id: str, base: str, families: Mapping[str, set[str]]) -> bool:
    return base != network_id and families[network_id] == {V6_EXIT} and V4_EXIT in families.get(base, ())


def _chosen_exit(selection: Selection, groups: tuple[HaGroup, ...]) -> str | None:
    exits = exit_bases(groups)
    people = {exits[network_id] for network_id in selection.selected if network_id in exits}
    automatic = {
        exits[group.network_id]
        for group in groups
        if group.is_exit and any(not route.skip_auto_apply for route in group.routes)
    }
    open_to_choice = {base for base in exits.values() if base not in selection.deselected}
    return min(people & open_to_choice or automatic & open_to_choice, default=None)


def _split(
    ids: Iterable[str], all_ids: frozenset[str], exits: Mapping[str, str]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """The offered ones, each with its twin, and the unknown ones in order."""
    ids = tuple(ids)
    known = all_ids.intersection(ids)
    bases = {exits[network_id] for network_id in known if network_id in exits}
    return known | {twin for twin, base in exits.items() if base in bases}, tuple(i for i in ids if i not in all_ids)
