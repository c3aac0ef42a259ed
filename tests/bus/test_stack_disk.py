"""The stack's buses on disks that are full and have room again: changes come back by themselves."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import nats.errors
import pytest

from shared.bus.embedded.config import Node
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import LOG
from tests.support.bus import Bus, eventually
from tests.support.cluster import SERVERS, Cluster
from tests.support.smalldisk import SmallDisk, small_disk
from tests.support.stackserver import StackServer

SUBJECT = "log.a"
LARGE = 64 * 1024
"""More than what still fits where a block was begun."""

STARTS_AGAIN = "the bus starts again: its disk has room"
SOON_S = 90.0


class Writer:
    """Writes to the log, and remembers what was accepted: sequence → number."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._number = 0
        self.accepted: dict[int, int] = {}

    async def write(self, size: int = 8) -> bool:
        """Whether it was accepted."""
        self._number += 1
        content = self._number.to_bytes(8, "big").ljust(size, b"\0")
        try:
            answer = await self._bus.management.jetstream().publish(SUBJECT, content, timeout=2)
        except nats.errors.Error:
            return False
        self.accepted[answer.seq] = self._number
        return True

    async def refused(self) -> bool:
        return not await self.write(LARGE)

    async def is_complete(self) -> bool:
        """Whether all that was accepted is in the log, each in its place."""
        jetstream = self._bus.management.jetstream()
        found = {}
        for sequence in self.accepted:
            data = (await jetstream.get_msg(LOG, sequence)).data
            found[sequence] = int.from_bytes((data or b"")[:8], "big")
        return found == self.accepted


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[tuple[Bus, StackServer, SmallDisk]]:
    with small_disk(tmp_path / "disk", 40) as disk:
        bus = Bus(disk.root)
        bus.server = server = StackServer(disk.root / "bus", bus.keys, tmp_path / "bus.log")
        await bus.start()
        try:
            await bus.make_streams()
            yield bus, server, disk
        finally:
            await bus.stop()


@pytest.mark.timeout(240)
async def test_a_bus_that_is_alone_takes_changes_again_once_its_disk_has_room(
    alone: tuple[Bus, StackServer, SmallDisk],
) -> None:
    bus, server, disk = alone
    writer, first = Writer(bus), server.child()
    assert first is not None
    assert await writer.write()
    disk.fill()
    await eventually(writer.refused)
    assert not (await server.health())[0]
    await eventually(lambda: server.said("the bus cannot write: make room on its disk"))
    assert server.child() == first, "it does not start again without room"
    disk.empty()
    await eventually(writer.write, within_s=SOON_S)
    assert (await server.health())[0]
    assert server.said(STARTS_AGAIN) == 1
    assert server.child() not in (None, first)
    assert await writer.is_complete()


class StackCluster(Cluster):
    """Each server's folder may be a disk of its own."""

    def _new(self, node: Node, port: int) -> NatsServer:
        return StackServer(self.disk(node.name), self.keys, self._directory.parent / f"{node.name}.log", node=node)

    def disk(self, name: str) -> Path:
        return self._directory.parent / name

    def member(self, name: str) -> StackServer:
        server = self.servers[name]
        assert isinstance(server, StackServer)
        return server


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, SmallDisk]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(small_disk(tmp_path / name, 40))
            for name in (f"bus-{number + 1}" for number in range(SERVERS))
        }


@pytest.fixture
async def cluster(tmp_path: Path, disks: dict[str, SmallDisk]) -> AsyncIterator[StackCluster]:
    cluster = StackCluster(tmp_path)
    try:
        await cluster.start()
        await eventually(cluster.whole, within_s=SOON_S)
        yield cluster
    finally:
        await cluster.stop()


async def healed(cluster: StackCluster, full: Sequence[str], disks: dict[str, SmallDisk]) -> None:
    """Make room, and wait until every server has all that every other one has."""
    for name in full:
        disks[name].empty()
    await eventually(cluster.whole, within_s=SOON_S)
    for name in full:
        server = cluster.member(name)

        async def well(server: StackServer = server) -> bool:
            return (await server.health())[0]

        await eventually(well, within_s=SOON_S)
        assert server.said(STARTS_AGAIN) == 1


@pytest.mark.timeout(300)
async def test_a_member_whose_disk_is_full_leaves_the_work_to_the_others_and_catches_up(
    cluster: StackCluster, disks: dict[str, SmallDisk]
) -> None:
    """It led the log, so that its leadership has to go as well."""
    writer = Writer(cluster)
    assert await writer.write()
    name = await eventually(lambda: cluster.leader(LOG), within_s=SOON_S)
    server = cluster.member(name)
    disks[name].fill()

    async def goes_on() -> bool:
        return await writer.write(LARGE) and not (await server.health())[0]

    await eventually(goes_on, within_s=SOON_S)
    for _ in range(10):
        assert await eventually(lambda: writer.write(LARGE))
    await healed(cluster, [name], disks)
    assert await eventually(writer.write, within_s=SOON_S)
    last = max(writer.accepted)

    async def has_all() -> bool:
        return await server.last_sequence(LOG) >= last

    await eventually(has_all, within_s=SOON_S)
    assert await writer.is_complete()
    assert not any(cluster.member(other).said(STARTS_AGAIN) for other in disks if other != name)


@pytest.mark.timeout(300)
async def test_a_cluster_on_one_full_disk_takes_changes_again_once_there_is_room(
    cluster: StackCluster, disks: dict[str, SmallDisk]
) -> None:
    writer = Writer(cluster)
    assert await writer.write()
    for disk in disks.values():
        disk.fill()
    await eventually(writer.refused)

    async def all_stuck() -> bool:
        await writer.write(LARGE)
        return not any([(await cluster.member(name).health())[0] for name in disks])

    await eventually(all_stuck, within_s=SOON_S)
    await healed(cluster, list(disks), disks)
    assert await eventually(writer.write, within_s=SOON_S)
    assert await writer.is_complete()
