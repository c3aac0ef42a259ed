"""`whimbrel server` on a disk that is small, full, and has room again."""

import asyncio
from typing import Any

import nats.errors
import pytest

from shared.bus.connection import connect
from shared.bus.keys import read_seed
from tests.bus.management.processes import Server, alive, kill, serving
from tests.support.bus import eventually
from tests.support.smalldisk import SmallDisk, disk

__all__ = ["disk"]

SOON_S = 90.0


async def refused(server: Server) -> Any:
    """What a change was refused with, once it is known why."""
    answer = await server.post("/api/groups", {"name": "refused"})
    return answer.status_code == 503 and "its disk" in answer.json()["message"] and answer.json()["message"]


async def stop_the_bus_writing(server: Server) -> None:
    """Send more than fits, as a large change would be: small ones still fit where a block was begun."""
    seed = read_seed(server.data_dir / "keys/management.nk")
    connection = await connect(f"nats://{server.bus}", seed, "management")
    try:
        with pytest.raises(nats.errors.TimeoutError):
            await connection.jetstream().publish("log.none", bytes(64 * 1024), timeout=1)
    finally:
        await connection.close()


async def taken(server: Server, name: str) -> bool:
    return (await server.post("/api/groups", {"name": name})).status_code == 200


async def names(server: Server) -> set[str]:
    answer = await server.get("/api/groups")
    assert answer.status_code == 200, answer.text
    return {group["name"] for group in answer.json()}


@pytest.mark.timeout(240)
async def test_with_a_full_disk_reads_go_on_and_changes_come_back_with_room(disk: SmallDisk) -> None:
    """The disk has 40 MiB: less than what the streams may grow to."""
    async with serving(disk.root / "data") as server:
        assert await taken(server, "before")
        children = server.children()
        disk.fill()
        await stop_the_bus_writing(server)
        assert await eventually(lambda: refused(server), within_s=SOON_S)
        assert await names(server) == {"All", "before"}
        health, ready = await server.get("/healthz"), await server.get("/readyz")
        assert (health.status_code, health.json()["status"], ready.status_code) == (503, "read-only", 200)
        assert server.children() == children, "nothing has ended"
        disk.empty()
        await eventually(lambda: taken(server, "after"), within_s=SOON_S)
        await eventually(server.answers, within_s=SOON_S)
        after = server.children()
        assert {name for name in after if after[name] != children[name]} == {"nats-server"}
        assert await names(server) == {"All", "before", "after"}
    async with serving(disk.root / "data") as again:
        assert await names(again) == {"All", "before", "after"}


@pytest.mark.timeout(240)
async def test_a_control_plane_that_died_starts_on_a_full_disk_and_reads(disk: SmallDisk) -> None:
    async with serving(disk.root / "data") as server:
        assert await taken(server, "before")
        disk.fill()
        await stop_the_bus_writing(server)
        assert await eventually(lambda: refused(server), within_s=SOON_S)
        children = server.children()
        server.process.kill()
        await server.process.wait()
        await eventually(lambda: not any(map(alive, children.values())))
    again = Server(disk.root / "data")
    again.api, again.bus = server.api, server.bus  # as it was started before: other ports are another configuration
    await again.start()
    try:
        assert "before" in await names(again)
        bus = again.children()["nats-server"]
        kill(bus)
        await eventually(lambda: again.children().get("nats-server", bus) != bus, within_s=SOON_S)
        assert "before" in await names(again)
        disk.empty()
        await eventually(lambda: taken(again, "after"), within_s=SOON_S)
        assert {"before", "after"} <= await names(again)
    finally:
        await again.terminate()


@pytest.mark.timeout(240)
async def test_a_start_that_waits_says_what_for(disk: SmallDisk) -> None:
    """The read model has to be made anew, and there is no room for it."""
    async with serving(disk.root) as server:
        assert await taken(server, "before")
    for part in (disk.root / "management").glob("readmodel.db*"):
        part.unlink()
    disk.fill()
    again = Server(disk.root)
    again.api, again.bus = server.api, server.bus
    starting = asyncio.create_task(again.start())
    try:
        log = disk.root.parent / "server.err"
        await eventually(lambda: starting.done() or "make room" in log.read_text(), within_s=SOON_S)
        assert not starting.done()
    finally:
        disk.empty()
        await asyncio.wait_for(starting, SOON_S)
    assert await names(again) == {"All", "before"}
    assert await again.terminate() == 0
