"""The read model's file, where it cannot be opened."""

import asyncio
from pathlib import Path

import pytest

from services.management.readmodel.store import Store
from shared.errors import CorruptFile


def test_a_file_that_cannot_be_opened_leaves_no_thread_that_complains_later(tmp_path: Path) -> None:
    """Such a complaint would be the last line that the operator sees, instead of the reason."""
    folder = tmp_path / "readmodel.db"
    folder.mkdir()
    for _ in range(100):
        with pytest.raises(CorruptFile):
            asyncio.run(opened(folder))


async def opened(path: Path) -> None:
    await Store.open(path)
