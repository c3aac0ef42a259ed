"""Files of mode 0600 that are whole or as they were, and bad files that are set aside, never deleted."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Replace the file's content: durable once this returns, the file's entry in its directory included.

    Raises OSError with the file's name; what was there before is there still.
    """
    with written(path, content):
        pass


@contextlib.contextmanager
def written(path: Path, content: bytes) -> Iterator[None]:
    """As `write`, around a block: it runs once there is a durable draft, which takes the file's place after it.

    The file is as it was when the draft cannot be written, and when the block fails.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with _named(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with os.fdopen(create(draft), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        yield
        with _named(path):
            draft.replace(path)
            _sync(path.parent)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def remove_drafts(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote. Nobody else may be writing in the folder."""
    for draft in folder.glob("*.[0-9]*.new"):
        with contextlib.suppress(OSError):
            draft.unlink()


def create(path: Path) -> int:
    """A descriptor of a new and empty file. What was there is gone: it may be somebody else's, or lead elsewhere."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def set_aside(path: Path, mark: str, *, suffixes: tuple[str, ...] = ()) -> Path:
    """Rename the file, so that a new one can be made; gives the name it has now.

    That is its own with `.<mark>-<n>`, the lowest number that is free. suffixes: of files beside it that belong to it.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.{mark}-{number}")).exists():
        number += 1
    for suffix in ("", *suffixes):
        part = path.with_name(path.name + suffix)
        if os.path.lexists(part):
            part.rename(aside.with_name(aside.name + suffix))
    return aside


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An OSError of the block names the file: the kernel names none for a write, and a draft is nobody's business."""
    try:
        yield
    except OSError as problem:
        problem.filename = str(path)
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
