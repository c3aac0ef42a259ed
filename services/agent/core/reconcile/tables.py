"""The kinds of kernel objects, from the inside outwards: in this order they are made, in reverse they are removed.

Nothing becomes more open than it was before or shall be after, whichever step the change stops at:

1. the ruleset, in one transaction: what is no longer permitted is cut, what is permitted from now on waits for routes;
2. what opens, from the inside outwards: link, device, settings, peers with their allowed IPs, rules, routes, and what
   draws traffic from the LAN;
3. what closes, in reverse: what draws traffic, routes, rules, allowed IPs nobody took over, peers, settings, link, and
   the ruleset last.

Replacing comes before removing, so that a route that moves never disappears (make before break).

A new kind is a row here, a field in desired_state.py with its part of desired(), and a driver.
"""

from collections.abc import Iterable

from services.agent.core.firewall.ruleset import change
from services.agent.core.kernel import RouteEntry
from services.agent.core.reconcile import peers
from services.agent.core.reconcile.steps import Delete, Destroy, Kind, Step, Upsert
from services.agent.core.reconcile.sysctls import restored
from services.agent.core.reconcile.table import (
    Comparison,
    Table,
    deletes,
    deletes_if_open,
    nothing,
    upserts,
)


def _write(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    desired, observed = comparison.desired.ruleset, comparison.observed.ruleset
    step = change(desired, observed) if desired is not None else None
    return (step,) if step else ()


def _destroy(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    observed = comparison.observed.ruleset
    is_there = observed.shape or observed.elements
    return (Destroy(),) if comparison.desired.ruleset is None and is_there else ()


def _write_back(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    """A setting is never without a value: one that is no longer desired gets the value it had before."""
    before = restored(comparison.originals, comparison.desired.sysctls, comparison.observed.sysctls)
    return (Upsert(table.kind, before, opens=False),)


def _unreachable_first(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    def order(item: tuple[str, RouteEntry]) -> tuple[bool, str]:
        return not item[1].unreachable, item[0]

    added = comparison.once(table.delta).upserts
    return (Upsert(table.kind, dict(sorted(added.items(), key=order)), opens=True),)


def _unreachable_last(table: Table, comparison: Comparison) -> tuple[Step, ...]:
    found = comparison.observed.routes
    routes, rules = comparison.once(table.delta), comparison.once(RULES.delta)
    prefixes = sorted(routes.deletes, key=lambda prefix: (found[prefix].unreachable, prefix))
    return (Delete(table.kind, tuple(prefixes), opens=bool(routes.upserts or rules.upserts)),)


RULES = Table("rule", "rules", upserts, deletes_if_open)

TABLES: tuple[Table, ...] = (
    # kind, field, how it is made, how it is removed
    Table("ruleset", "ruleset", _write, _destroy),
    Table("link", "links", upserts, deletes, dirty_with=("device",)),  # a device that is made anew has a new link
    Table("device", "devices", upserts, nothing, dirty_with=("link",)),  # it goes with its link
    # Interfaces come with settings of their own; IPv6's switch is told of by the addresses that come and go with it.
    Table("sysctl", "sysctls", upserts, _write_back, dirty_with=("link", "addresses")),
    Table("peer", "peers", peers.before_routes, peers.after_routes, same=peers.same_peer, read_with="device"),
    RULES,
    # The kernel does not tell that IPv4 routes go with their link.
    Table("route", "routes", _unreachable_first, _unreachable_last, dirty_with=("link",)),
    # It draws the LAN's traffic, and goes with an interface that is not ours.
    Table("floating", "floating", upserts, deletes, dirty_with=("addresses",)),
)

KINDS: tuple[Kind, ...] = tuple(table.kind for table in TABLES)


def dirtied(changed: Iterable[str]) -> frozenset[Kind]:
    """The kinds to read again after changes of these kinds and of the host, the kinds they are read with included.

    Empty when none of the tables depends on what changed.
    """
    dirty, spread = set[str](), set(changed)
    while spread:
        dirty |= spread
        spread = {table.kind for table in TABLES if dirty.intersection(table.dirty_with)} - dirty
    return frozenset(table.read_with or table.kind for table in TABLES if table.kind in dirty)
