"""The steps of a plan, and the entries that each of them changes."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.firewall.ruleset import Elements, Replace

Kind: TypeAlias = str
"""A kind of kernel object: the name of its table in core/reconcile/tables.py."""

Entry: TypeAlias = tuple[Kind, Any]
"""Kind and key of what a step changes; the whole nftables table is RULESET."""

RULESET: Entry = ("ruleset", "")


class Upsert(msgspec.Struct, frozen=True, tag=True):
    """Make entries what they shall be, in this order. A peer is written with all of its allowed IPs.

    opens: skip the step when the ruleset step of this plan failed, since it may let something through. False for a
    peer that only loses allowed IPs; one that gained others in this plan has them in the same write.
    """

    kind: Kind
    entries: Mapping[Any, Any]
    opens: bool


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Remove entries, in this order.

    opens: as in Upsert. True for peers that a later step adds anew, for rules, and for routes in whose place others
    come: their traffic may go into the open when what replaces them was held back. A peer that is to go always goes.
    """

    kind: Kind
    keys: tuple[Any, ...]
    opens: bool


class Destroy(msgspec.Struct, frozen=True, tag=True):
    """Remove the nftables table."""


Step: TypeAlias = Replace | Elements | Upsert | Delete | Destroy


def kind_of(step: Step) -> Kind:
    """The kind of kernel object that a step changes."""
    return step.kind if isinstance(step, Upsert | Delete) else RULESET[0]


def entries(step: Step) -> dict[Entry, Any]:
    """The entries that a step changes, with the value that each is to get; None for an entry that is to go."""
    match step:
        case Replace():
            return {RULESET: step.ruleset}
        case Elements():
            return {RULESET: (step.add, step.remove)}
        case Destroy():
            return {RULESET: None}
        case Upsert():
            return {(step.kind, key): value for key, value in step.entries.items()}
        case Delete():
            return {(step.kind, key): None for key in step.keys}


def without(step: Step, left_out: Iterable[Entry]) -> Step | None:
    """The step without some of its entries, None when nothing remains."""
    keys = {key for _, key in left_out}
    if not keys:
        return step
    match step:
        case Upsert():
            kept = {key: value for key, value in step.entries.items() if key not in keys}
            return replace(step, entries=kept) if kept else None
        case Delete():
            remaining = tuple(key for key in step.keys if key not in keys)
            return replace(step, keys=remaining) if remaining else None
    return None


def is_empty(step: Step) -> bool:
    """Whether a step changes no entry."""
    match step:
        case Upsert():
            return not step.entries
        case Delete():
            return not step.keys
    return False
