"""Streams of the version before, made where there was much room, on a disk that has little: they are taken along."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js.api import StreamConfig

from shared.bus.embedded import server
from shared.bus.embedded.config import MAX_FILE_STORE, MAX_MEMORY_STORE, render
from shared.bus.streams import FACTS, FEED, LOG, configurations, ensure_streams
from shared.events import subjects
from shared.events.subjects import FeedKey
from tests.support.bus import Bus, eventually
from tests.support.smalldisk import SmallDisk, small_disk

GIBIBYTE = 1024**3
LARGE_MIB, SMALL_MIB = 3072, 40
SOON_S = 60.0

KEPT = {
    LOG: ("log.a", b"a change"),
    FACTS: (subjects.session_fact("a", "p"), b"a fact"),
    FEED: (subjects.feed(FeedKey("a", "g.g", "route", "r")), b"a document"),
}


def former() -> list[StreamConfig]:
    """Without what was added since; FACTS was as large, and that was set aside."""
    since: dict[str, Any] = {"duplicate_window": None, "allow_atomic": None}
    return [config if config.name == LOG else replace(config, **since) for config in configurations(1)]


def former_server(*arguments: Any, **options: Any) -> str:
    """Without a figure, nats-server takes 75 % of the room that there is when it starts."""
    figures = (f"  max_file_store: {MAX_FILE_STORE}\n", f"  max_memory_store: {MAX_MEMORY_STORE}\n")
    rendered = render(*arguments, **options)
    for figure in figures:
        assert figure in rendered
        rendered = rendered.replace(figure, "")
    return rendered


@pytest.fixture
async def shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Bus, SmallDisk]]:
    """A bus of this version on the streams of the former one, on a disk that has become small."""
    with small_disk(tmp_path / "disk", LARGE_MIB) as disk:
        bus = Bus(disk.root)
        with monkeypatch.context() as then:
            then.setattr(server, "render", former_server)
            await bus.start()
            jetstream = bus.management.jetstream()
            for config in former():
                await jetstream.add_stream(config)
            writer = {LOG: bus.management, FEED: bus.management, FACTS: await bus.service("signal")}
            for stream, (subject, content) in KEPT.items():
                await writer[stream].jetstream().publish(subject, content)
            await bus.server.stop()
        disk.shrink(SMALL_MIB)
        await bus.server.start()
        try:
            yield bus, disk
        finally:
            disk.empty()
            await bus.stop()


async def taken_along(bus: Bus) -> bool:
    """Whether the streams could be brought up to this version."""
    try:
        await ensure_streams(bus.management.jetstream())
    except nats.errors.Error:
        return False
    return True


async def assert_all_is_there(bus: Bus) -> None:
    jetstream = bus.management.jetstream()
    configs = {name: (await jetstream.stream_info(name)).config for name in KEPT}
    assert {name: config.duplicate_window for name, config in configs.items()} == dict.fromkeys(KEPT, 120)
    assert (configs[FACTS].max_bytes, configs[FEED].allow_atomic) == (GIBIBYTE, True)
    kept = {name: (await jetstream.get_last_msg(name, subject)).data for name, (subject, _) in KEPT.items()}
    assert kept == {name: content for name, (_, content) in KEPT.items()}
    assert (await jetstream.publish("log.a", b"another change")).seq == 2


async def test_they_are_updated_and_keep_what_they_hold(shrunk: tuple[Bus, SmallDisk]) -> None:
    bus, _ = shrunk
    assert await eventually(lambda: taken_along(bus), within_s=SOON_S)
    await assert_all_is_there(bus)


async def test_on_a_full_disk_they_wait_for_room(shrunk: tuple[Bus, SmallDisk]) -> None:
    bus, disk = shrunk
    disk.fill()
    with pytest.raises(nats.errors.Error, match="no space left on device"):
        await ensure_streams(bus.management.jetstream())
    disk.empty()
    assert await eventually(lambda: taken_along(bus), within_s=SOON_S)
    await assert_all_is_there(bus)
