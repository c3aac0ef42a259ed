"""The API of whole management replicas, over HTTP, on a real bus."""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.management.settings import Settings
from services.management.wiring import run
from shared.net.listen import Listen, require_free
from tests.bus.management.plane import PlainBus
from tests.support.bus import eventually

LISTINGS = ["routes", "groups", "policies", "peers", "setup-keys", "events/audit", "users/current", "accounts"]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[PlainBus]:
    bus = PlainBus(tmp_path)
    await bus.start()
    yield bus
    await bus.stop()


@contextlib.asynccontextmanager
async def replica(bus: PlainBus, folder: Path, token_file: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A running replica, and a client that has the admin token."""
    listen = require_free(Listen("127.0.0.1", 0), "--api")
    settings = Settings(bus=bus.url, credentials=bus.seeds, data_dir=folder, api=str(listen), admin_token=token_file)
    folder.mkdir(exist_ok=True)
    running = asyncio.create_task(run(settings))
    try:
        async with httpx.AsyncClient(base_url=f"http://{listen}", trust_env=False, timeout=30) as client:
            await eventually(lambda: answers(client, running), within_s=30)
            client.headers["Authorization"] = f"Token {token_file.read_text().strip()}"
            yield client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def answers(client: httpx.AsyncClient, running: "asyncio.Task[None]") -> bool:
    if running.done():
        running.result()
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def get(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(f"/api/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/{path}", json=body)
    assert answer.status_code == 200, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def fill(client: httpx.AsyncClient) -> None:
    """A bit of everything that REST can make without a host."""
    office = await post(client, "groups", name="office")
    await post(client, "setup-keys", name="offices", type="reusable", expires_in=86400, auto_groups=[office["id"]])
    rule = {"name": "r", "action": "accept", "protocol": "all", "sources": [office["id"]]}
    await post(client, "policies", name="p", enabled=True, rules=[{**rule, "destinations": [office["id"]]}])
    routed = {"peer": "", "metric": 100, "groups": [office["id"]], "enabled": True}
    await post(client, "routes", network_id="lan", network="10.0.0.0/24", **routed)
    wiki = await post(client, "routes", network_id="wiki", domains=["wiki.example.com"], **routed)
    assert (await client.delete(f"/api/routes/{wiki['id']}")).json() == {}


async def test_the_first_start_makes_an_account_and_a_token_that_only_its_owner_reads(
    bus: PlainBus, tmp_path: Path
) -> None:
    token_file = tmp_path / "admin.token"
    async with replica(bus, tmp_path / "one", token_file) as client:
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        assert (await get(client, "users/current"))["role"] == "owner"
        [everybody] = await get(client, "groups")
        assert everybody["name"] == "All"
        [default] = await get(client, "policies")
        assert (default["name"], default["enabled"]) == ("Default", True)
        assert [default["rules"][0][side][0]["name"] for side in ("sources", "destinations")] == ["All", "All"]
        for event in await get(client, "events/audit"):
            assert token_file.read_text().strip() not in str(event)


async def test_what_is_answered_is_readable_and_numbered_by_the_log(bus: PlainBus, tmp_path: Path) -> None:
    async with replica(bus, tmp_path / "one", tmp_path / "admin.token") as client:
        for number in range(10):
            created = await client.post("/api/groups", json={"name": f"group{number}"})
            read = await client.get(f"/api/groups/{created.json()['id']}")
            assert (read.status_code, read.json()) == (200, created.json())
            assert read.headers["ETag"] == created.headers["ETag"]
            [event] = (await get(client, "events/audit"))[:1]
            assert event["target_id"] == created.json()["id"]
            assert event["id"] == f"{created.headers['ETag'].strip(chr(34))}.0"


async def test_deleting_the_read_model_changes_no_answer(bus: PlainBus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"

    async def everything(client: httpx.AsyncClient) -> dict[str, tuple[str, Any]]:
        found = {path: await client.get(f"/api/{path}") for path in LISTINGS}
        return {path: (answer.headers["ETag"], answer.json()) for path, answer in found.items()}

    async with replica(bus, tmp_path / "one", token_file) as client:
        await fill(client)
        before = await everything(client)
    for file in (tmp_path / "one").glob("readmodel.db*"):
        file.unlink()
    async with replica(bus, tmp_path / "one", token_file) as client:
        assert await everything(client) == before
    async with replica(bus, tmp_path / "two", token_file) as client:
        assert await everything(client) == before


async def test_writers_at_two_replicas_lose_nothing(bus: PlainBus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    async with (
        replica(bus, tmp_path / "one", token_file) as one,
        replica(bus, tmp_path / "two", token_file) as two,
    ):

        async def writer(number: int) -> list[str]:
            client, taken = (one, two)[number % 2], []
            for step in range(5):
                name = f"w{number}s{step}"
                answer = await client.post("/api/groups", json={"name": name})
                assert answer.status_code in (200, 409), answer.text
                if answer.status_code == 200:
                    taken.append(name)
            return taken

        accepted = {name for names in await asyncio.gather(*map(writer, range(8))) for name in names}
        assert len(accepted) > 30
        for client in (one, two):
            await eventually(partial(names, client, accepted))
            events = [event for event in await get(client, "events") if event["activity_code"] == "group.add"]
            assert sorted(event["meta"]["name"] for event in events) == sorted(accepted)


async def names(client: httpx.AsyncClient, expected: set[str]) -> bool:
    return {group["name"] for group in await get(client, "groups")} == expected | {"All"}


async def test_of_several_writers_for_one_revision_exactly_one_wins(bus: PlainBus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    async with (
        replica(bus, tmp_path / "one", token_file) as one,
        replica(bus, tmp_path / "two", token_file) as two,
    ):
        for round_ in range(5):
            etag = (await one.get("/api/groups")).headers["ETag"]
            await eventually(partial(same_revision, two, etag))
            headers = {"If-Match": etag}
            tried = await asyncio.gather(
                *(
                    client.post("/api/groups", json={"name": f"r{round_}w{number}"}, headers=headers)
                    for number, client in enumerate((one, two) * 4)
                )
            )
            assert sorted(answer.status_code for answer in tried) == [200] + [412] * 7


async def same_revision(client: httpx.AsyncClient, etag: str) -> bool:
    return (await client.get("/api/groups")).headers["ETag"] == etag


async def test_a_replica_without_a_bus_still_reads_and_says_that_it_does_not_serve(
    bus: PlainBus, tmp_path: Path
) -> None:
    async with replica(bus, tmp_path / "one", tmp_path / "admin.token") as client:
        await bus.server.stop()

        async def unavailable() -> bool:
            return (await client.get("/healthz")).status_code == 503

        await eventually(unavailable)
        assert (await client.get("/healthz")).json()["troubles"] == ["the bus does not answer"]
        assert len(await get(client, "policies")) == 1
