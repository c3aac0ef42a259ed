"""The read model's file: what the fold of the log holds, and the log sequence it stands for, in one transaction."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiosqlite
import msgspec

from services.management.core.entities import Entity, Ref
from services.management.core.model.commit import Commit
from services.management.ports import NEWEST
from shared.errors import CorruptFile, NoRoom

APPLICATION_ID = 0x57684272
"""PRAGMA application_id: the file is a read model of ours."""

VERSION = 1
"""PRAGMA user_version: raised with every change of the schema or of what the blobs hold. Another one is rebuilt."""

BESIDE = ("-wal", "-shm")
"""What the names of the files end with that SQLite keeps beside its own."""

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, digest BLOB NOT NULL
) STRICT;
CREATE TABLE accounts (account TEXT PRIMARY KEY, revision INTEGER NOT NULL) STRICT;
CREATE TABLE entities (
    account TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (account, kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE events (sequence INTEGER PRIMARY KEY, account TEXT NOT NULL, data BLOB NOT NULL) STRICT;
CREATE INDEX events_by_account ON events (account, sequence);
"""

_entity = msgspec.msgpack.Decoder(Entity)
_commit = msgspec.msgpack.Decoder(Commit)
_encode = msgspec.msgpack.Encoder().encode


class Unusable(Exception):
    """Set the file aside and rebuild it from the log: `problem` says what is wrong with it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class Checkpoint(msgspec.Struct, frozen=True):
    """The last message of the log that the file stands for. digest: SHA-256 of its data; b"" for none."""

    sequence: int
    digest: bytes


class Stored(msgspec.Struct, frozen=True):
    """Everything a start needs. revisions and entities by account."""

    checkpoint: Checkpoint
    revisions: Mapping[str, int]
    entities: Mapping[str, list[Entity]]


class Batch(msgspec.Struct, frozen=True):
    """What one transaction adds. entities: None for a deleted one. events: commits without their entities."""

    checkpoint: Checkpoint
    revisions: Mapping[str, int]
    entities: Mapping[tuple[str, Ref], Entity | None]
    events: Sequence[tuple[int, Commit]]


class Store:
    """One SQLite file, open. One writer: the read model."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file or make a new one.

        Raises Unusable when it is not a read model of this version, NoRoom when the disk is full, CorruptFile when no
        file can be used there.
        """
        try:
            sqlite3.connect(path).close()  # where this fails, aiosqlite would leave a thread behind
        except sqlite3.Error as problem:
            raise CorruptFile(path, str(problem)) from None
        connection = await aiosqlite.connect(path)
        try:
            # Its index is then in this process's memory: one that others could share takes room, also for reading.
            await connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            await connection.execute("PRAGMA journal_mode = WAL")
            # A power cut may take the last transactions, never half of one. The log has them.
            await connection.execute("PRAGMA synchronous = NORMAL")
            found = await _pragma(connection, "application_id"), await _pragma(connection, "user_version")
            if found == (0, 0) and not await _pragma(connection, "schema_version"):
                await connection.executescript(_SCHEMA)
                found = APPLICATION_ID, VERSION
            if found != (APPLICATION_ID, VERSION):
                raise Unusable("it is not a read model of this version")
        except BaseException as problem:
            await connection.close()  # its thread would keep the process from ending
            if isinstance(problem, sqlite3.OperationalError) and problem.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise NoRoom(path) from None
            if isinstance(problem, sqlite3.OperationalError):
                raise CorruptFile(path, str(problem)) from None
            if isinstance(problem, sqlite3.DatabaseError):
                raise Unusable(str(problem)) from None
            raise
        return cls(path, connection)

    async def load(self) -> Stored:
        """Everything but the events; raises Unusable when it cannot be read."""
        try:
            checkpoint = await self._fetch("SELECT sequence, digest FROM checkpoint")
            revisions = await self._fetch("SELECT account, revision FROM accounts")
            rows = await self._fetch("SELECT account, data FROM entities")
            entities: dict[str, list[Entity]] = {account: [] for account, _ in revisions}
            for account, data in rows:
                entities[account].append(_entity.decode(data))
        except (sqlite3.DatabaseError, msgspec.DecodeError, KeyError) as problem:
            raise Unusable(str(problem)) from None
        return Stored(Checkpoint(*checkpoint[0]) if checkpoint else Checkpoint(0, b""), dict(revisions), entities)

    async def save(self, batch: Batch) -> None:
        """Write all of it or nothing. Raises sqlite3.Error."""
        put = [(account, ref.kind, ref.id, _encode(e)) for (account, ref), e in batch.entities.items() if e is not None]
        gone = [(account, ref.kind, ref.id) for (account, ref), e in batch.entities.items() if e is None]
        events = [(sequence, commit.account, _encode(commit)) for sequence, commit in batch.events]
        try:
            await self._write("INSERT OR REPLACE INTO entities VALUES (?, ?, ?, ?)", put)
            await self._write("DELETE FROM entities WHERE account = ? AND kind = ? AND id = ?", gone)
            await self._write("INSERT OR REPLACE INTO accounts VALUES (?, ?)", list(batch.revisions.items()))
            await self._write("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", events)
            last = batch.checkpoint
            await self._write("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", [(last.sequence, last.digest)])
            await self._connection.commit()
        except BaseException:
            await self._connection.rollback()
            raise

    async def events(
        self, account: str, limit: int, /, *, after: int = 0, before: int = NEWEST
    ) -> list[tuple[int, Commit]]:
        """The newest commits of the account without their entities, newest first, of those between two sequences."""
        rows = await self._fetch(
            "SELECT sequence, data FROM events WHERE account = ? AND sequence > ? AND sequence < ?"
            " ORDER BY sequence DESC LIMIT ?",
            *(account, after, before, limit),
        )
        return [(sequence, _commit.decode(data)) for sequence, data in rows]

    async def close(self) -> None:
        await self._connection.close()

    async def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            await self._connection.executemany(statement, rows)

    async def _fetch(self, query: str, *parameters: object) -> list[Any]:
        return list(await self._connection.execute_fetchall(query, parameters))


async def _pragma(connection: aiosqlite.Connection, name: str) -> int:
    rows = list(await connection.execute_fetchall(f"PRAGMA {name}"))
    return int(rows[0][0])
