"""A backup of the bus: one file with the three streams as they are, sequence numbers and times included.

A stream is copied and made again by the server's own snapshot, which also checks each message. So hosts go on reading
FEED from where they were, read models keep their checkpoints, and the number of copies is that of the bus restored to.
"""

import asyncio
import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.errors import NotRestored
from shared import files
from shared.bus.streams import FACTS, FEED, LOG
from shared.tasks import end_if_cancelled

STREAMS = (FEED, FACTS, LOG)
"""In this order: what is derived never runs ahead of the log, and a restored log says that all is there."""

ABOUT = "whimbrel-backup.json"
VERSION = 1
CHUNK_BYTES = 128 * 1024
SILENCE_S = 30.0
RETRY_S = 0.1
_API = "$JS.API.STREAM"

Tell = Callable[[str], None]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """version: of the file's form. made_at: unix seconds. last: the log's last sequence. digests: name of each other
    part → SHA-256 of its content."""

    version: int
    made_at: float
    last: int
    digests: dict[str, str]


class _Figures(msgspec.Struct, frozen=True):
    """The part of a stream's state that matters here."""

    messages: int
    last_seq: int


class _Kept(msgspec.Struct, frozen=True):
    """config, state: of the stream, as the server gave them and wants them back."""

    config: dict[str, Any]
    state: dict[str, Any]

    @property
    def figures(self) -> _Figures:
        return msgspec.convert(self.state, _Figures)


class _Problem(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    """config, state: as in _Kept. deliver_subject: where the stream's parts go to."""

    error: _Problem | None = None
    config: dict[str, Any] = {}
    state: dict[str, Any] = {}
    deliver_subject: str = ""


async def back_up(connection: Client, file: Path, tell: Tell) -> About:
    """Copy the streams into `file`, mode 0600: whole once this returns, and not there before.

    Raises NotRestored when the server refuses, OSError, nats.errors.Error or TimeoutError.
    """
    draft = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(files.create(draft), "wb") as raw:
            last, digests = 0, dict[str, str]()
            with tarfile.open(fileobj=raw, mode="w") as archive:
                for stream in STREAMS:
                    figures = (await _copy(connection, stream, archive, digests, file.parent)).figures
                    last = figures.last_seq
                    tell(f"{stream}: {figures.messages} messages, up to {last}")
                made = About(version=VERSION, made_at=time.time(), last=last, digests=digests)
                _add(archive, ABOUT, io.BytesIO(msgspec.json.encode(made)))
            raw.flush()
            os.fsync(raw.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    return made


async def restore(connection: Client, file: Path, replicas: int, tell: Tell) -> About:
    """Make the streams that are in the file. One that is there already as in the file is left as it is.

    replicas: copies of each. Raises NotRestored when the file is no backup or is damaged, before anything is made, and
    when a stream is in the way.
    """
    with _opened(file) as archive:
        about = _about(archive, file)
        for name in (f"{stream}.{part}" for stream in STREAMS for part in ("json", "snapshot")):
            if _digest(_part(archive, name, file)) != about.digests.get(name):
                raise NotRestored(f"{file} is damaged: its {name} is not what was written")
        for stream in STREAMS:
            kept = _kept(archive, stream, file)
            found = await _ask(connection, f"{_API}.INFO.{stream}", {})
            if found.error is None:
                if msgspec.convert(found.state, _Figures) != kept.figures:
                    raise NotRestored(f"the bus has a stream {stream} of its own: restore to a bus without data")
                tell(f"{stream}: there already")
                continue
            await _make(connection, stream, kept, replicas, _part(archive, f"{stream}.snapshot", file))
            tell(f"{stream}: {kept.figures.messages} messages, up to {kept.figures.last_seq}")
    return about


async def _copy(
    connection: Client, stream: str, archive: tarfile.TarFile, digests: dict[str, str], folder: Path
) -> _Kept:
    inbox, arrived = connection.new_inbox(), asyncio.Queue[Msg]()
    subscription = await connection.subscribe(inbox, cb=arrived.put, pending_msgs_limit=0, pending_bytes_limit=0)
    try:
        wish = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK_BYTES, "jsck": True}
        answer = await _ask(connection, f"{_API}.SNAPSHOT.{stream}", wish)
        if answer.error:
            raise NotRestored(f"the bus cannot copy the stream {stream}: {answer.error.description}")
        with tempfile.TemporaryFile(dir=folder) as parts:
            while True:
                end_if_cancelled()
                async with asyncio.timeout(SILENCE_S):
                    message = await arrived.get()
                if not message.data:
                    break
                parts.write(message.data)
                if message.reply:
                    await connection.publish(message.reply)
            if int((message.headers or {}).get("Status", "204")) >= 400:
                problem = (message.headers or {}).get("Description", "it broke off")
                raise NotRestored(f"the bus cannot copy the stream {stream}: {problem}")
            kept = _Kept(answer.config, answer.state)
            for name, content in (
                (f"{stream}.json", io.BytesIO(msgspec.json.encode(kept))),
                (f"{stream}.snapshot", parts),
            ):
                _add(archive, name, content)
                digests[name] = _digest(content)
        return kept
    finally:
        await subscription.unsubscribe()


async def _make(connection: Client, stream: str, kept: _Kept, replicas: int, parts: IO[bytes]) -> None:
    wish = {"config": {**kept.config, "num_replicas": replicas}, "state": kept.state}
    answer = await _ask(connection, f"{_API}.RESTORE.{stream}", wish)
    if answer.error:
        raise NotRestored(f"the bus cannot take the stream {stream}: {answer.error.description}")
    while chunk := parts.read(CHUNK_BYTES):
        _taken(stream, await _handed_in(connection, answer.deliver_subject, chunk))
    _taken(stream, await _handed_in(connection, answer.deliver_subject, b""))


async def _handed_in(connection: Client, subject: str, chunk: bytes) -> bytes:
    """What the bus says of one part. The subject is new: another server of a cluster may not know of it yet."""
    async with asyncio.timeout(SILENCE_S):
        while True:
            end_if_cancelled()
            try:
                return (await connection.request(subject, chunk, timeout=SILENCE_S)).data
            except nats.errors.NoRespondersError:
                await asyncio.sleep(RETRY_S)


def _taken(stream: str, data: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):  # what acknowledges a part is no JSON
        problem = msgspec.json.decode(data, type=_Answer).error
        if problem:
            raise NotRestored(f"the bus cannot take the stream {stream}: {problem.description}")


async def _ask(connection: Client, subject: str, wish: dict[str, Any]) -> _Answer:
    try:
        reply = await connection.request(subject, msgspec.json.encode(wish), timeout=SILENCE_S)
    except nats.errors.NoRespondersError:
        raise NotRestored("the bus keeps no streams: start it with JetStream") from None
    return msgspec.json.decode(reply.data, type=_Answer)


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, os.SEEK_END)
    content.seek(0)
    archive.addfile(member, content)


def _digest(content: IO[bytes]) -> str:
    """Of a file that can be read from its beginning; it is at its end afterwards."""
    digest = hashlib.sha256()
    content.seek(0)
    while chunk := content.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file, "r:") as archive:
            yield archive
    except tarfile.TarError as problem:
        raise NotRestored(f"{file} is not a backup: {problem}") from None


def _about(archive: tarfile.TarFile, file: Path) -> About:
    try:
        about = msgspec.json.decode(_part(archive, ABOUT, file).read(), type=About)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotRestored(f"{file} is not a backup: it does not say what it is") from None
    if about.version != VERSION:
        raise NotRestored(f"{file} was made by another version: restore it with that one")
    return about


def _kept(archive: tarfile.TarFile, stream: str, file: Path) -> _Kept:
    try:
        return msgspec.json.decode(_part(archive, f"{stream}.json", file).read(), type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotRestored(f"{file} is not a backup: it does not say what {stream} is") from None


def _part(archive: tarfile.TarFile, name: str, file: Path) -> IO[bytes]:
    try:
        part = archive.extractfile(name)
    except KeyError:
        part = None
    if part is None:
        raise NotRestored(f"{file} is not a whole backup: it has no {name}")
    return part
