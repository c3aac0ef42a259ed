"""A file system of a few MiB that can be filled and emptied again."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHUNK = 64 * 1024


class SmallDisk:
    """root: where it is mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Use up what is free, to the last byte but `leave`."""
        with self._filler.open("ab", buffering=0) as file:
            size = CHUNK
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
            if leave:
                file.truncate(max(0, os.fstat(file.fileno()).st_size - leave))

    def empty(self) -> None:
        """Free what `fill` used."""
        self._filler.unlink(missing_ok=True)

    def shrink(self, mebibytes: int) -> None:
        """What is on it has to fit."""
        subprocess.run(["mount", "-o", f"remount,size={mebibytes}m", str(self.root)], check=True)


@contextlib.contextmanager
def small_disk(root: Path, mebibytes: int) -> Iterator[SmallDisk]:
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(root)], check=True)
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 40) as disk:
        yield disk
