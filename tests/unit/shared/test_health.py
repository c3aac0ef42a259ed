"""When a bus that cannot write is started again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.bus import health

FULL = "no space left"


@pytest.mark.parametrize(
    ("looks", "starts"),
    [
        ([("", True)] * 3, 0),
        ([(FULL, False)] * 5, 0),
        ([(FULL, False), (FULL, True)], 1),
        ([(FULL, True), (None, True), (FULL, True), (FULL, True)], 1),
        ([(FULL, True), ("", True), (FULL, True)], 2),
        ([(FULL, True), (FULL, False), (FULL, True)], 2),
        ([(None, True)] * 3, 0),
    ],
    ids=[
        "it is well",
        "never without room",
        "with room",
        "not again when that did not help",
        "again at the next time",
        "again when the disk was full in between",
        "not when it does not answer",
    ],
)
async def test_it_starts_again_once_there_is_room_and_never_in_a_loop(
    looks: Sequence[tuple[str | None, bool]], starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """looks: what the bus says and whether there is room, at each look."""
    monkeypatch.setattr(health, "LOOK_EVERY_S", 0.0)
    left, started = list(looks), 0
    over = asyncio.Event()

    async def problem() -> str | None:
        if not left:
            over.set()
            await asyncio.Event().wait()
        said, room = left.pop(0)
        monkeypatch.setattr(health, "has_room", lambda *_: room)
        return said

    async def start_again() -> None:
        nonlocal started
        started += 1

    watching = asyncio.create_task(health.start_again_with_room(tmp_path, problem, start_again))
    await asyncio.wait_for(over.wait(), 10)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert started == starts
