"""An account is founded on a first start and never again, whatever the bus has lost."""

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js.errors import NotFoundError

from services.management.settings import Settings
from services.management.wiring import run
from shared.bus.reached import FILE, Reached
from shared.net.listen import Listen, require_free
from tests import builders
from tests.bus.management.replica import append, whole_log
from tests.support.bus import Bus, eventually


@contextlib.asynccontextmanager
async def management(bus: Bus, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """One replica, whatever it says; with the admin token once there is one."""
    listen = require_free(Listen("127.0.0.1", 0), "--api")
    folder.mkdir(exist_ok=True)
    token_file = folder / "admin.token"
    settings = Settings(bus=bus.url, credentials=bus.seeds, data_dir=folder, api=str(listen), admin_token=token_file)
    running = asyncio.create_task(run(settings))
    try:
        async with httpx.AsyncClient(base_url=f"http://{listen}", trust_env=False, timeout=30) as client:
            yield client
            assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def health(client: httpx.AsyncClient) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = (await client.get("/healthz")).json()
    except httpx.TransportError:
        return {"status": "no answer", "troubles": []}
    return answer


async def is_well(client: httpx.AsyncClient) -> bool:
    return bool((await health(client))["status"] == "ok")


async def refuses(client: httpx.AsyncClient, why: str) -> bool:
    seen = await health(client)
    return seen["status"] == "unavailable" and any(why in line for line in seen["troubles"])


async def test_a_first_start_is_remembered_before_anything_is_served(bare_bus: Bus, tmp_path: Path) -> None:
    remembered = Reached(bare_bus.seeds)
    assert remembered.read() == (0, 0)
    async with management(bare_bus, tmp_path / "one") as client:
        await eventually(lambda: is_well(client), within_s=30)
        assert remembered.read() == (1, 0)


@pytest.mark.parametrize("memory", ["57 0\n", "garbage", None], ids=["it came to 57", "unreadable", "forgotten"])
async def test_an_empty_bus_where_something_was_founded_gets_no_account(
    bare_bus: Bus, tmp_path: Path, memory: str | None
) -> None:
    if memory is None:
        (bare_bus.seeds / FILE).unlink()
    else:
        (bare_bus.seeds / FILE).write_text(memory)
    async with management(bare_bus, tmp_path / "one") as client:
        await eventually(lambda: refuses(client, "the log is empty"), within_s=30)
        [line] = [line for line in (await health(client))["troubles"] if "empty" in line]
        for remedy in ("data it had", "whimbrel server restore", "whimbrel server accept-loss"):
            assert remedy in line
        answer = await client.get("/api/groups", headers={"Authorization": "Token nobody"})
        assert answer.status_code == 503
        assert "whimbrel server restore" in answer.json()["message"]
        assert not (tmp_path / "one/admin.token").exists()


async def test_a_log_that_comes_back_is_served_without_a_restart(bare_bus: Bus, tmp_path: Path) -> None:
    Reached(bare_bus.seeds).note(1)
    async with management(bare_bus, tmp_path / "one") as client:
        await eventually(lambda: refuses(client, "the log is empty"), within_s=30)
        await bare_bus.make_streams()
        await append(bare_bus, builders.commit(builders.account(), builders.group_all()))
        await eventually(lambda: is_well(client), within_s=30)


async def test_a_start_that_was_killed_before_it_remembered_finds_its_account(bus: Bus, tmp_path: Path) -> None:
    """The account is in the log, and the log may still begin by what is remembered."""
    await append(bus, builders.commit(builders.account(), builders.group_all()))
    async with management(bus, tmp_path / "one") as client:
        await eventually(lambda: is_well(client), within_s=30)
        assert not (tmp_path / "one/admin.token").exists()
        assert Reached(bus.seeds).read() == (1, 0)


async def test_an_installation_from_before_anything_was_remembered_goes_on(bus: Bus, tmp_path: Path) -> None:
    await append(bus, builders.commit(builders.account(), builders.group_all()))
    (bus.seeds / FILE).unlink()
    async with management(bus, tmp_path / "one") as client:
        await eventually(lambda: is_well(client), within_s=30)
        assert Reached(bus.seeds).read() == (1, 0)


async def test_of_replicas_that_start_at_once_on_a_new_bus_one_founds_the_account(
    bare_bus: Bus, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abcd"]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(management(bare_bus, folder)) for folder in folders]
        for client in clients:
            await eventually(lambda client=client: is_well(client), within_s=60)  # type: ignore[misc]
        assert len(await whole_log(bare_bus)) == 1
        [token] = [file.read_text().strip() for folder in folders if (file := folder / "admin.token").exists()]
        for client in clients:
            assert (await client.get("/api/groups", headers={"Authorization": f"Token {token}"})).status_code == 200
        assert Reached(bare_bus.seeds).read() == (1, 0)


async def test_a_replica_that_is_killed_between_founding_and_remembering_leaves_one_account(
    bare_bus: Bus, tmp_path: Path
) -> None:
    listen = require_free(Listen("127.0.0.1", 0), "--api")
    folder = tmp_path / "one"
    folder.mkdir()

    async def founded() -> bool:
        with contextlib.suppress(NotFoundError):
            return len(await whole_log(bare_bus)) == 1
        return False

    remembering = os.open(bare_bus.seeds, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(remembering, fcntl.LOCK_EX)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.management", "--bus", bare_bus.url, "--api", str(listen)),
            *("--credentials", str(bare_bus.seeds), "--data-dir", str(folder)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await eventually(founded, within_s=60)
        finally:
            process.kill()
            await process.wait()
        assert Reached(bare_bus.seeds).read() == (0, 0)
    finally:
        os.close(remembering)
    token = (folder / "admin.token").read_text().strip()
    for name in ("one", "two"):  # the same replica, and one that knows nothing
        async with management(bare_bus, tmp_path / name) as client:
            await eventually(lambda client=client: is_well(client), within_s=60)  # type: ignore[misc]
            answer = await client.get("/api/groups", headers={"Authorization": f"Token {token}"})
            assert answer.status_code == 200
    assert len(await whole_log(bare_bus)) == 1
    assert not (tmp_path / "two/admin.token").exists()
    assert Reached(bare_bus.seeds).read() == (1, 0)
