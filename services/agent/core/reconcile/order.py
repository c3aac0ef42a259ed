"""The plan from one state of the kernel to another. Why it is safe, see core/reconcile/tables.py."""

from collections.abc import Iterable, Mapping

from services.agent.core.desired_state import Desired, Observed
from services.agent.core.reconcile.steps import Step, is_empty
from services.agent.core.reconcile.table import Comparison
from services.agent.core.reconcile.tables import TABLES


def plan(
    desired: Desired,
    observed: Observed,
    *,
    resets: Iterable[str] = (),
    originals: Mapping[str, str] | None = None,
) -> tuple[Step, ...]:
    """The steps from `observed` to `desired`, () when there is nothing to do. A clean stop is `plan(Desired(), …)`.

    resets: public keys of peers to remove and add anew, which makes WireGuard send a handshake at once; one without a
    desired endpoint has a session by now and is left alone. originals: values of settings before the agent changed
    them, path → value; those no longer desired are written back. An upserted link that was not observed has to be
    created first.
    """
    comparison = Comparison(desired, observed, resets, originals or {})
    steps = (
        *(step for table in TABLES for step in table.make(table, comparison)),
        *(step for table in reversed(TABLES) for step in table.remove(table, comparison)),
    )
    return tuple(step for step in steps if not is_empty(step))
