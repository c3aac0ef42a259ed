"""The one loop that makes the kernel what it shall be: observe, compare, change, read back.

Handlers only store the newest input and wake it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats, SysctlEntry
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.reconcile import sysctls
from services.agent.core.reconcile.desired import Computation, Local
from services.agent.core.reconcile.desired_state import Desired
from services.agent.core.reconcile.order import plan
from services.agent.core.reconcile.steps import Entry, Step, entries
from services.agent.core.reconcile.tables import KINDS
from services.agent.core.routing.choices import Selection
from services.agent.loop.failures import Failures
from services.agent.loop.kernel import Drivers, Kernel
from services.agent.loop.table import DIFFERS
from services.agent.ports import Passed
from shared.metrics import REGISTRY, Counter
from shared.tasks import end_if_cancelled

APART_S = 0.005
CHECK_EVERY_S = 30.0
STOP_TRIES = 3

log = structlog.get_logger()

_drifts = Counter(
    "whimbrel_agent_drift_repairs", "Kernel entries of ours that others changed", ["kind"], registry=REGISTRY
)


class Originals(Protocol):
    """Kernel settings as they were before the agent changed them, path → value, kept from run to run."""

    @property
    def value(self) -> dict[str, str]: ...

    def keep(self, value: dict[str, str]) -> None: ...


class Loop:
    """Keeps the kernel as `documents()`, the paths in `book` and `selection` want it.

    passed: what the last pass left. on_pass: called after each pass.
    """

    def __init__(
        self,
        local: Local,
        drivers: Drivers,
        documents: Callable[[], Documents],
        book: PathBook,
        originals: Originals,
        on_pass: Callable[[], None],
    ) -> None:
        self._kernel = Kernel(drivers)
        self._documents = documents
        self._book = book
        self._originals = originals
        self._on_pass = on_pass
        self._failures = Failures()
        self._computation = Computation()
        self._resets: set[str] = set()
        self._wake = asyncio.Event()
        self._wake.set()
        self._left: frozenset[Entry] | None = None
        """What differed from `passed.desired` when it was last read; None while that is not known."""
        self.selection = local.selection
        self.passed = Passed(local=local)

    def changed(self) -> None:
        """What is wanted may be different now."""
        self._wake.set()

    def choose(self, selection: Selection) -> None:
        """The routes people chose."""
        self.selection = selection
        self._wake.set()

    def told(self, unfollowed: Mapping[str, str]) -> None:
        """Prefixes of ours that the kernel sends elsewhere → why."""
        self.passed = replace(self.passed, unfollowed=unfollowed)
        self._on_pass()

    def dirty(self, changed: Iterable[str] = KINDS) -> None:
        """Somebody may have changed these kinds of kernel objects, or of the host (ports.HostChange)."""
        if self._kernel.dirty(changed):
            self._wake.set()

    def counted(self, stats: Mapping[str, PeerStats]) -> None:
        """What the device says whenever its counters are read: nobody tells when another program changes its peers."""
        held = {key: peer.allowed_ips for key, peer in self._kernel.observed.peers.items()}
        if self._left is not None and held != {key: one.allowed_ips for key, one in stats.items()}:
            self.dirty(("peer",))

    def reset(self, public_key: str) -> None:
        """Remove the peer from the device and add it anew."""
        self._resets.add(public_key)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        check_at = time.monotonic() + CHECK_EVERY_S
        while True:
            end_if_cancelled()
            await self._something_to_do(check_at)
            began = time.monotonic()
            if began >= check_at:
                self._kernel.dirty()
                check_at = began + CHECK_EVERY_S
            self._wake.clear()
            try:
                await self.turn()
            except OSError as problem:
                log.warning("the kernel cannot be read, going on trying", problem=str(problem))
                await asyncio.sleep(1.0)
                self._wake.set()
            await asyncio.sleep(max(0.0, began + APART_S - time.monotonic()))

    async def turn(self) -> None:
        """One pass: the kernel is as wanted afterwards, or `passed` says what is not."""
        documents = self._documents()
        self._book.set_peers({peer.peer_id: peer.wireguard_key for peer in documents.peers.values()}, time.monotonic())
        if await self._kernel.observe():
            self._report_drift()
        # Taken no sooner: a peer that turns out to be missing is added by this pass anyway, and the other side drops
        # a second handshake that comes within 20 ms of the first.
        resets, self._resets = self._resets, set()
        local, wanted = self._compute(documents)
        steps = self._plan(wanted, resets)
        errors, left = await self._apply(wanted, steps) if steps else ({}, ())
        self._finish(documents, local, wanted, errors, left)

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

    async def _apply(self, wanted: Desired, steps: tuple[Step, ...]) -> tuple[dict[Entry, str], tuple[Entry, ...]]:
        """Change the kernel and read it back: what failed or reads differently than written, and all that differs."""
        self._left = None
        unnoted = self._note_originals(wanted)
        tried = {entry: value for step in steps for entry, value in entries(step).items()}
        now = time.monotonic()

        def blocked(entry: Entry, value: object) -> str:
            return (unnoted if entry[0] == "sysctl" else "") or self._failures.reason(entry, value, now)

        errors = await self._kernel.apply(steps, blocked)
        await self._kernel.observe()
        left = tuple(entry for step in self._plan(wanted) for entry in entries(step))
        for entry in left:
            if entry in tried:
                errors.setdefault(entry, DIFFERS)
        self._failures.note(tried, errors, now)
        return errors, left

    def _note_originals(self, wanted: Desired) -> str:
        """Keep what settings are before they change; why that was not possible, and they are left alone then."""
        try:
            self._originals.keep(sysctls.journal(self._originals.value, wanted.sysctls, self._kernel.observed.sysctls))
        except OSError as problem:
            return f"its former value cannot be noted: {problem.strerror or problem}"
        return ""

    def _forget_originals(self, wanted: Mapping[str, SysctlEntry]) -> None:
        with contextlib.suppress(OSError):  # what is noted too much is written back once more, and is what it was
            self._originals.keep(sysctls.settled(self._originals.value, wanted, self._kernel.observed.sysctls))

    async def _something_to_do(self, check_at: float) -> None:
        due = self._failures.next_deadline()
        until = check_at if due is None else min(check_at, due)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._wake.wait()

    def _compute(self, documents: Documents) -> tuple[Local, Desired]:
        local = replace(
            self.passed.local,
            selection=self.selection,
            endpoints=self._book.endpoints(),
            connected=self._book.connected(),
            carriers=self.passed.desired.carriers,
            sysctls={path: entry.value for path, entry in self._kernel.observed.sysctls.items()},
            originals=self._originals.value,
        )
        return local, self._computation.update(documents, local)

    def _plan(self, wanted: Desired, resets: Iterable[str] = ()) -> tuple[Step, ...]:
        return plan(wanted, self._kernel.observed, resets=resets, originals=self._originals.value)

    def _report_drift(self) -> None:
        """Say what is no longer as the last pass left it, whatever is wanted by now."""
        if self._left is None:
            return
        differs = {entry for step in self._plan(self.passed.desired) for entry in entries(step)}
        kinds = [kind for kind, _ in differs - self._left]
        for kind in kinds:
            _drifts.labels(kind).inc()
        if kinds:
            found = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
            log.warning("somebody changed the kernel, repairing", **found)

    def _finish(
        self,
        documents: Documents,
        local: Local,
        wanted: Desired,
        errors: Mapping[Entry, str],
        left: tuple[Entry, ...],
    ) -> None:
        """Keep what came of a pass. What still differs is pending; what nobody tried yet has its turn now."""
        pending = _named({entry: errors.get(entry, "") for entry in left})
        applied = self.passed.applied_revision
        self._left = frozenset(left)
        if not left:
            applied = wanted.revision
            self._forget_originals(wanted.sysctls)
        elif not all(pending.values()):
            self._wake.set()
        for name, error in pending.items():
            if error and error != self.passed.pending.get(name):
                log.warning("not applied, trying again", entry=name, problem=error)
        self.passed = Passed(
            documents=documents,
            local=local,
            desired=wanted,
            applied_revision=applied,
            pending=pending,
            errors=errors,
            unfollowed=self.passed.unfollowed,
        )
        self._on_pass()


def _named(errors: Mapping[Entry, str]) -> dict[str, str]:
    return {_name(kind, key): error for (kind, key), error in errors.items()}


def _name(kind: str, key: object) -> str:
    return " ".join((kind, *map(str, key if isinstance(key, tuple) else (key,)))).strip()
