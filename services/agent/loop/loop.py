"""The one loop that makes the kernel what it shall be: observe, compare, change, read back.

It goes round whenever what it goes by is no longer what its last pass went by.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from services.agent.cells import Watch, since
from services.agent.core.desired_state import Desired
from services.agent.core.dns.learned import Joined, Resolved
from services.agent.core.documents import Documents
from services.agent.core.ha.standing import Decision
from services.agent.core.kernel import FloatingAddress, SysctlEntry
from services.agent.core.reconcile import sysctls
from services.agent.core.reconcile.desired import Computation, Local
from services.agent.core.reconcile.order import plan
from services.agent.core.reconcile.steps import Entry, Step, entries
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.hagroups import HaKey
from services.agent.loop.failures import Failures
from services.agent.loop.kernel import Drivers, Kernel
from services.agent.loop.table import DIFFERS
from services.agent.ports import Kept
from services.agent.situation import PassResult, Situation, Tunnels
from shared.bus.patience import Trouble
from shared.metrics import REGISTRY, Counter
from shared.tasks import end_if_cancelled

APART_S = 0.005
CHECK_EVERY_S = 30.0
STOP_TRIES = 3

log = structlog.get_logger()

_drifts = Counter(
    "whimbrel_agent_drift_repairs", "Kernel entries of ours that others changed", ["kind"], registry=REGISTRY
)


class Inputs(NamedTuple):
    """What a pass goes by, besides the kernel."""

    documents: Documents
    choices: Selection
    tunnels: Tunnels
    floating: Mapping[str, FloatingAddress]
    carriers: Mapping[HaKey, Decision]
    withdrawn: Mapping[str, str]
    learned: Resolved

    def are(self, others: "Inputs | None") -> bool:
        return others is not None and all(one is other for one, other in zip(self, others, strict=True))


class Loop:
    """Keeps the kernel as the cells want it that are its Inputs.

    originals: kernel settings as they were before the agent changed them, path → value.
    """

    def __init__(self, situation: Situation, drivers: Drivers, originals: Kept[dict[str, str]]) -> None:
        self._situation = situation
        self._kernel = Kernel(drivers)
        self._originals = originals
        self._failures = Failures()
        self._joined = Joined()
        self._computation = Computation()
        self._trouble = Trouble("the kernel cannot be read", "the kernel can be read again")
        self._watch = Watch(
            situation.documents,
            situation.choices,
            situation.tunnels,
            situation.carriers,
            situation.withdrawn,
            situation.floating,
            situation.learned,
            situation.dirty,
            situation.counters,
        )
        self._went_by: Inputs | None = None
        self._dirty = situation.dirty.value
        self._counters = situation.counters.value
        self._is_unfinished = False
        self._left: frozenset[Entry] | None = None
        """What differed from the desired state of the last pass when it was last read; None while that is not known."""

    async def run(self) -> None:
        """Until cancelled. What a predecessor left is not judged by an empty picture."""
        while self._situation.documents.value is None:
            end_if_cancelled()
            await self._watch.wait()
        check_at = time.monotonic() + CHECK_EVERY_S
        while True:
            end_if_cancelled()
            await self._something_to_do(check_at)
            began = time.monotonic()
            if began >= check_at:
                self._kernel.dirty()
                check_at = began + CHECK_EVERY_S
            try:
                await self.turn()
                self._trouble.over()
            except OSError as problem:
                self._trouble.tell(problem)
                await asyncio.sleep(1.0)
                self._is_unfinished = True
            await asyncio.sleep(max(0.0, began + APART_S - time.monotonic()))

    async def turn(self) -> None:
        """One pass: the kernel is as desired afterwards, or its result says what is not."""
        self._is_unfinished = False
        if await self._kernel.observe():
            self._report_drift()
        # Taken no sooner: a peer that turns out to be missing is added by this pass anyway, and the other side drops
        # a second handshake that comes within 20 ms of the first.
        inputs, former = self._inputs(), self._went_by
        resets = since(former.tunnels.resets if former else {}, inputs.tunnels.resets)
        self._went_by = inputs
        documents = self._joined.update(inputs.documents, inputs.learned)
        local, desired = self._compute(inputs, documents)
        steps = self._plan(desired, resets)
        errors, left = await self._apply(desired, steps) if steps else ({}, ())
        self._finish(documents, inputs.learned, local, desired, errors, left)

    async def stop(self) -> Mapping[str, str]:
        """Remove all of ours from the kernel; gives what could not be removed, "kind key" → error."""
        errors: dict[Entry, str] = {}
        for _ in range(STOP_TRIES):
            self._kernel.dirty()
            await self._kernel.observe()
            steps = self._plan(Desired())
            if not steps:
                break
            errors = await self._kernel.apply(steps, lambda _entry, _value: "")
        self._forget_originals({})
        return _named(errors if steps else {})

    async def _apply(self, desired: Desired, steps: tuple[Step, ...]) -> tuple[dict[Entry, str], tuple[Entry, ...]]:
        """Change the kernel and read it back: what failed or reads differently than written, and all that differs."""
        self._left = None
        unnoted = self._note_originals(desired)
        tried = {entry: value for step in steps for entry, value in entries(step).items()}
        now = time.monotonic()

        def blocked(entry: Entry, value: object) -> str:
            return (unnoted if entry[0] == "sysctl" else "") or self._failures.reason(entry, value, now)

        errors = await self._kernel.apply(steps, blocked)
        await self._kernel.observe()
        left = tuple(entry for step in self._plan(desired) for entry in entries(step))
        for entry in left:
            if entry in tried:
                errors.setdefault(entry, DIFFERS)
        self._failures.note(tried, errors, now)
        return errors, left

    def _note_originals(self, desired: Desired) -> str:
        """Keep what settings are before they change; why that was not possible, and they are left alone then."""
        try:
            self._originals.keep(sysctls.journal(self._originals.value, desired.sysctls, self._kernel.observed.sysctls))
        except OSError as problem:
            return f"its former value cannot be noted: {problem.strerror or problem}"
        return ""

    def _forget_originals(self, desired: Mapping[str, SysctlEntry]) -> None:
        with contextlib.suppress(OSError):  # what is noted too much is written back once more, and is what it was
            self._originals.keep(sysctls.settled(self._originals.value, desired, self._kernel.observed.sysctls))

    async def _something_to_do(self, check_at: float) -> None:
        """Return when there is reason for a pass, or something is due."""
        due = self._failures.next_deadline()
        until = check_at if due is None else min(check_at, due)
        while not self._has_news() and (rest_s := until - time.monotonic()) > 0:
            end_if_cancelled()
            await self._watch.wait(rest_s)

    def _has_news(self) -> bool:
        self._note_changes()
        return self._is_unfinished or self._kernel.is_dirty or not self._inputs().are(self._went_by)

    def _note_changes(self) -> None:
        """Have what others may have changed read anew.

        Nobody tells when another program changes the device's peers: whoever reads their counters sees it.
        """
        dirty, counters = self._situation.dirty.value, self._situation.counters.value
        self._kernel.dirty(since(self._dirty, dirty))
        self._dirty = dirty
        if counters is not self._counters and self._left is not None:
            held = {key: peer.allowed_ips for key, peer in self._kernel.observed.peers.items()}
            if held != {key: one.allowed_ips for key, one in counters.items()}:
                self._kernel.dirty(("peer",))
        self._counters = counters

    def _inputs(self) -> Inputs:
        situation = self._situation
        return Inputs(
            situation.documents.value or Documents(),
            situation.choices.value,
            situation.tunnels.value,
            situation.floating.value,
            situation.carriers.value,
            situation.withdrawn.value,
            situation.learned.value,
        )

    def _compute(self, inputs: Inputs, documents: Documents) -> tuple[Local, Desired]:
        keys = {peer_id: peer.wireguard_key for peer_id, peer in documents.peers.items()}
        endpoints, connected = inputs.tunnels.endpoints, inputs.tunnels.connected
        local = replace(
            self._situation.local,
            selection=inputs.choices,
            endpoints={peer_id: endpoints[key] for peer_id, key in keys.items() if key in endpoints},
            connected=frozenset(peer_id for peer_id, key in keys.items() if key in connected),
            routing_peers=self._passed.desired.routing_peers,
            decisions={key: decision.peer_id for key, decision in inputs.carriers.items()},
            sysctls={path: entry.value for path, entry in self._kernel.observed.sysctls.items()},
            originals=self._originals.value,
            floating=inputs.floating,
            withdrawn=frozenset(inputs.withdrawn),
        )
        return local, self._computation.update(documents, local)

    @property
    def _passed(self) -> PassResult:
        return self._situation.passed.value

    def _plan(self, desired: Desired, resets: Iterable[str] = ()) -> tuple[Step, ...]:
        return plan(desired, self._kernel.observed, resets=resets, originals=self._originals.value)

    def _report_drift(self) -> None:
        """Say what is no longer as the last pass left it, whatever is desired by now."""
        if self._left is None:
            return
        differs = {entry for step in self._plan(self._passed.desired) for entry in entries(step)}
        kinds = [kind for kind, _ in differs - self._left]
        for kind in kinds:
            _drifts.labels(kind).inc()
        if kinds:
            found = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
            log.warning("somebody changed the kernel, repairing", **found)

    def _finish(
        self,
        documents: Documents,
        learned: Resolved,
        local: Local,
        desired: Desired,
        errors: Mapping[Entry, str],
        left: tuple[Entry, ...],
    ) -> None:
        """Say what came of a pass. What still differs is pending; what nobody tried yet has its turn now."""
        pending = _named({entry: errors.get(entry, "") for entry in left})
        applied = self._passed.applied_revision
        self._left = frozenset(left)
        if not left:
            applied = desired.revision
            self._forget_originals(desired.sysctls)
        elif not all(pending.values()):
            self._is_unfinished = True
        for name, error in pending.items():
            if error and error != self._passed.pending.get(name):
                log.warning("not applied, trying again", entry=name, problem=error)
        self._counters = self._situation.counters.value  # read while this pass changed the device, or before
        self._situation.passed.set(
            PassResult(
                documents=documents,
                learned=learned,
                local=local,
                desired=desired,
                applied_revision=applied,
                pending=pending,
                errors=errors,
            )
        )


def _named(errors: Mapping[Entry, str]) -> dict[str, str]:
    return {_name(kind, key): error for (kind, key), error in errors.items()}


def _name(kind: str, key: object) -> str:
    return " ".join((kind, *map(str, key if isinstance(key, tuple) else (key,)))).strip()
