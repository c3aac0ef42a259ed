"""The fold of the log behind the API: in memory for answers, in SQLite for the next start and for the audit trail."""

import asyncio
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import structlog
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.management.core.entities import Entity, Ref
from services.management.core.model.account import Account
from services.management.core.model.commit import Commit
from services.management.core.state import Intent
from services.management.errors import LogChanged
from services.management.ports import NEWEST, FoldListener, TroublesPort
from services.management.readmodel import tail
from services.management.readmodel.progress import Progress
from services.management.readmodel.store import BESIDE, Batch, Checkpoint, Store, Unusable
from shared import files
from shared.bus.codec import decode
from shared.bus.streams import GAP, LOG
from shared.bus.undecodable import Undecodables
from shared.errors import CorruptFile, Undecodable
from shared.events import subjects
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY, Gauge, Histogram
from shared.tasks import end_if_cancelled

REMEMBERED_IDS = 10_000
"""Message ids of the newest commits, by which a writer without an answer finds its own."""

UNKNOWN = -2
"""Whether the message before was in the place of a lost one, when only its digest is known, which says that it was."""

MOST_UNSAVED = 1_000
"""Commits in memory but not in the file, beyond which a long log is held back."""

SAVE_AGAIN_S = 1.0
CAUSE = "read model"

log = structlog.get_logger()

_sequence = Gauge("whimbrel_log_sequence", "LOG sequence up to which this replica holds the log", registry=REGISTRY)
_saving = Histogram("whimbrel_readmodel_save_seconds", "Time a transaction of the read model takes", registry=REGISTRY)


class ReadModel:
    """Fold of ports.py, and more. `open`, then run `follow` and `save` as tasks, then `catch_up` before serving.

    lost: checkpoint of a file that was set aside because the log did not reach it, 0 for none.
    """

    def __init__(self, connection: Client, path: Path, undecodables: Undecodables, troubles: TroublesPort) -> None:
        self.intent = Intent()
        self.lost = 0
        self._diverged = asyncio.Event()
        self._intact = -1
        self._connection = connection
        self._path = path
        self._undecodables = undecodables
        self._troubles = troubles
        self._saves = True
        self._listeners: list[FoldListener] = []
        self._taken = Progress()
        self._saved = Progress()
        self._unsaved = _Unsaved()
        self._has_unsaved = asyncio.Event()
        self._ids: OrderedDict[str, int] = OrderedDict()
        self._store: Store

    @property
    def sequence(self) -> int:
        return self._taken.reached

    def listen(self, listener: FoldListener) -> None:
        self._listeners.append(listener)

    async def wait_for(self, sequence: int) -> None:
        await self._taken.reach(sequence)

    async def wait_saved(self, sequence: int) -> None:
        """Return once the file holds everything up to the sequence."""
        await self._saved.reach(sequence)

    async def settled(self) -> None:
        if self._saves:
            await self._saved.reach(self.sequence - MOST_UNSAVED)

    async def events(
        self, account: str, limit: int, /, *, after: int = 0, before: int = NEWEST
    ) -> Sequence[tuple[int, Commit]]:
        """The newest commits of an account with their sequences, newest first, without the entities they changed;
        those between the sequences `after` and `before`, both left out."""
        return await self._store.events(account, limit, after=after, before=before)

    def committed_as(self, message_id: str) -> int | None:
        """LOG sequence of a recent message with that Nats-Msg-Id."""
        return self._ids.get(message_id)

    async def open(self) -> None:
        """Take over what the file holds. One that cannot be used, or is not of this log, is set aside."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            await self._restore()
        except Unusable as problem:
            kept = files.set_aside(self._path, "aside", suffixes=BESIDE)
            log.warning("read model set aside, rebuilding it from the log", problem=problem.problem, kept=str(kept))
            await self._restore()
        self._taken.advance(self.intent.sequence)
        self._saved.advance(self.intent.sequence)

    async def _restore(self) -> None:
        self._store = await Store.open(self._path)
        try:
            stored = await self._store.load()
            await self._require_of_this_log(stored.checkpoint)
        except BaseException:
            await self._store.close()
            raise
        self._intact = UNKNOWN if stored.checkpoint.digest == _digest(b"") else -1
        self.intent.restore(stored.checkpoint.sequence, stored.revisions, stored.entities)

    async def _require_of_this_log(self, checkpoint: Checkpoint) -> None:
        if not checkpoint.sequence:
            return
        try:
            message = await self._connection.jetstream().get_msg(LOG, checkpoint.sequence)
        except NotFoundError:
            self.lost = checkpoint.sequence
            raise Unusable("the log does not reach its checkpoint") from None
        if _digest(message.data or b"") != checkpoint.digest:
            raise Unusable("it was made from another log")

    async def close(self) -> None:
        await self._store.close()

    async def catch_up(self) -> None:
        """Return once everything the log holds now is folded in. Raises nats.errors.Error or TimeoutError."""
        info = await self._connection.jetstream().stream_info(LOG)
        await self.wait_for(info.state.last_seq)

    async def follow(self) -> None:
        """Fold the log as it grows, for ever. Raises LogChanged when a part of what was folded is lost for good."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(tail.follow(self._connection, self))
            await self._diverged.wait()
            following.cancel()
        raise LogChanged

    def take(self, message: Msg, sequence: int) -> None:
        if self._folded_what_is_lost(message):
            self._diverged.set()
        if self._diverged.is_set():
            return
        try:
            self._fold(message, sequence)
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(LOG, problem)
        self._remember(message, sequence)
        self._unsaved.checkpoint = Checkpoint(sequence, _digest(message.data))
        self._has_unsaved.set()
        _sequence.set(sequence)
        self._taken.advance(sequence)

    def _fold(self, message: Msg, sequence: int) -> None:
        if GAP in (message.headers or {}):
            return  # a message was here once, and is lost
        commit = decode(message.subject, message.data, Commit)
        if commit.account != subjects.parse_log(message.subject):
            raise Undecodable(message.subject, "it is a commit of another account")
        if commit.account not in self.intent.accounts and not any(isinstance(e, Account) for e in commit.upserts):
            raise Undecodable(message.subject, "there is no such account")
        changes = self.intent.apply(sequence, commit)
        for change in changes:
            self._unsaved.entities[commit.account, change.ref] = change.new
        self._unsaved.revisions[commit.account] = sequence
        self._unsaved.events.append((sequence, replace(commit, upserts=(), deletes=())))
        for listener in self._listeners:
            listener.folded(commit.account, sequence, changes)

    def _folded_what_is_lost(self, message: Msg) -> bool:
        """Whether the message stands for a lost one, and those before it were folded before they were lost."""
        intact = int((message.headers or {}).get(GAP, "-1"))
        known, self._intact = self._intact, intact
        return intact >= 0 and self.sequence > intact and known not in (intact, UNKNOWN)

    def _remember(self, message: Msg, sequence: int) -> None:
        message_id = (message.headers or {}).get("Nats-Msg-Id")
        if message_id:
            self._ids[message_id] = sequence
            if len(self._ids) > REMEMBERED_IDS:
                self._ids.popitem(last=False)

    async def save(self) -> None:
        """Write what was folded to the file, as it comes, all that waits in one transaction. Raises CorruptFile.

        While there is no room for it, it stays in memory, and no change is taken.
        """
        while True:
            end_if_cancelled()
            await self._has_unsaved.wait()
            self._has_unsaved.clear()
            unsaved, self._unsaved = self._unsaved, _Unsaved()
            if unsaved.checkpoint is None:
                continue
            try:
                with _saving.time():
                    await self._store.save(unsaved.batch(unsaved.checkpoint))
            except sqlite3.OperationalError as problem:
                self._saves = False
                self._troubles.arise(CAUSE, f"{self._path} cannot be written ({problem}): make room on its disk")
                self._unsaved = unsaved.followed_by(self._unsaved)
                self._has_unsaved.set()
                await asyncio.sleep(SAVE_AGAIN_S)
            except sqlite3.Error as problem:
                raise CorruptFile(self._path, f"cannot be written: {problem}") from None
            else:
                self._saves = True
                self._saved.advance(unsaved.checkpoint.sequence)
                self._troubles.end(CAUSE)


class _Unsaved:
    """What the next transaction will hold."""

    def __init__(self) -> None:
        self.checkpoint: Checkpoint | None = None
        self.revisions: dict[str, int] = {}
        self.entities: dict[tuple[str, Ref], Entity | None] = {}
        self.events: list[tuple[int, Commit]] = []

    def followed_by(self, later: "_Unsaved") -> "_Unsaved":
        """Both in one."""
        self.checkpoint = later.checkpoint or self.checkpoint
        self.revisions |= later.revisions
        self.entities |= later.entities
        self.events += later.events
        return self

    def batch(self, checkpoint: Checkpoint) -> Batch:
        return Batch(checkpoint, self.revisions, self.entities, self.events)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
