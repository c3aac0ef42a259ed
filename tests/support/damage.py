"""A disk that gives back other bytes than were written."""

import shutil
from collections.abc import Callable

from tests.support.bus import Bus, eventually


def damage(bus: Bus, stream: str) -> None:
    """200 bytes in the middle of the stream's newest block are not what they were."""
    [block] = bus.seeds.parent.glob(f"bus/store/jetstream/*/streams/{stream}/msgs/*.blk")
    data = bytearray(block.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(byte ^ 0x5A for byte in data[middle : middle + 200])
    block.write_bytes(data)
    for index in block.parent.glob("index.db"):
        index.unlink()


async def break_off(bus: Bus, stream: str) -> None:
    """The server stops, and starts again with the stream damaged."""
    await _restarted(bus, lambda: damage(bus, stream))


async def empty(bus: Bus, stream: str) -> None:
    """The same with a stream that holds nothing any more."""

    def lose() -> None:
        [folder] = bus.seeds.parent.glob(f"bus/store/jetstream/*/streams/{stream}")
        shutil.rmtree(folder)

    await _restarted(bus, lose)
    await bus.make_streams()


async def _restarted(bus: Bus, meanwhile: Callable[[], None]) -> None:
    port = int(bus.url.rpartition(":")[2])
    await bus.server.stop()
    meanwhile()
    bus.server._port = port
    await bus.server.start()
    await eventually(lambda: bus.management.is_connected)
