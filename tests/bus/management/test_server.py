"""`whimbrel server`: the embedded control plane as processes."""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from litestar.types import Receive, Scope, Send

from services.management.serving import serve
from shared.bus.keys import seed_file
from shared.net.listen import Listen
from tests.bus.management.processes import ANY_PORT, Server, alive, kill, serving, whimbrel
from tests.support.bus import eventually
from tests.support.ports import free_port

EVERYBODY = {"nats-server", "management", "signal", "resolver"}


async def test_the_control_plane_starts_says_where_it_is_and_stops_cleanly(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", "--dns-router-interval", "30s") as server:
        for said in (f"http://{server.api}", f"nats://{server.bus}", str(tmp_path / "data/admin.token")):
            assert said in server.said
        assert (tmp_path / "data/admin.token").stat().st_mode & 0o777 == 0o600
        user = (await server.get("/api/users/current")).json()
        assert (user["role"], user["is_current"]) == ("owner", True)
        assert (await server.post("/api/groups", {"name": "office"})).status_code == 200
        children = server.children()
        assert set(children) == EVERYBODY
        assert children["resolver"].cmdline()[-2:] == ["--dns-router-interval", "30s"]
        secrets = [file.read_text().strip() for file in (tmp_path / "data").rglob("*.nk")]
        secrets.append((tmp_path / "data/admin.token").read_text().strip())
        commands = " ".join(part for child in children.values() for part in child.cmdline())
        assert not any(secret in commands for secret in secrets), "no secret is in a command line"
        logs = "".join(file.read_text() for file in (tmp_path / "data").rglob("*.log"))
        assert not any(secret in logs for secret in secrets), "no secret is in a log"
        assert await server.terminate() == 0
        assert not any(map(alive, children.values()))


async def test_deleting_the_read_model_changes_no_answer(tmp_path: Path) -> None:
    paths = ("groups", "policies", "setup-keys", "routes", "peers", "users", "accounts", "events/audit")

    async def answers(server: Server) -> dict[str, object]:
        return {path: (await server.get(f"/api/{path}")).json() for path in paths}

    async with serving(tmp_path / "data") as server:
        group = (await server.post("/api/groups", {"name": "office"})).json()["id"]
        key = {"name": "key", "type": "reusable", "expires_in": 86_400, "auto_groups": [group], "usage_limit": 0}
        assert (await server.post("/api/setup-keys", key)).status_code == 200
        before = await answers(server)
        assert len(before["events/audit"]) >= 3  # type: ignore[arg-type]
    for restart in ("with the file", "without it"):
        if restart == "without it":
            for part in (tmp_path / "data/management").glob("readmodel.db*"):
                part.unlink()
        async with serving(tmp_path / "data") as server:
            assert await answers(server) == before, restart


async def test_a_directory_or_a_port_in_use_gets_one_line_that_names_it(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        api = bus = ANY_PORT
        other = str(tmp_path / "other")
        for arguments, named, expected in (
            (("--data-dir", str(tmp_path / "data"), "--api", api, "--bus", bus), str(tmp_path / "data"), 1),
            (("--data-dir", other, "--api", server.api, "--bus", bus), server.api, 1),
            (("--data-dir", other, "--api", api, "--bus", server.bus), server.bus, 1),
            (("--data-dir", other, "--api", "nowhere", "--bus", bus), "--api", 2),
            (("--data-dir", other, "--api", api, "--bus", "::1:4222"), "--bus", 2),
            (
                ("--data-dir", other, "--api", api, "--bus", bus, "--dns-router-interval", "soon"),
                "--dns-router-interval",
                1,
            ),
        ):
            code, said = await whimbrel("server", *arguments, "--log-level", "error")
            assert code == expected
            assert named in said
            assert len(said.splitlines()) == 1, said
        assert await server.answers()


@pytest.mark.timeout(150)  # four processes start again, each with a pause before it
async def test_what_crashes_is_started_again_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as server:
        for number, name in enumerate(("management", "nats-server", "signal", "resolver")):
            assert (await server.post("/api/groups", {"name": f"group-{number}"})).status_code == 200
            killed = server.children()[name]
            kill(killed)

            def started_again(name: str = name, killed: int = killed.pid) -> bool:
                return name in (now := server.children()) and now[name].pid != killed

            await eventually(started_again, within_s=30)
            await eventually(server.answers, within_s=30)
        assert (await server.post("/api/groups", {"name": "after"})).status_code == 200
        groups = await server.get("/api/groups")
        assert groups.status_code == 200, groups.text
        names = {group["name"] for group in groups.json()}
        assert names == {"All", "group-0", "group-1", "group-2", "group-3", "after"}


async def test_no_child_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    await server.start()
    children = server.children()
    assert set(children) == EVERYBODY
    kill(psutil.Process(server.process.pid))
    await server.process.wait()
    await eventually(lambda: not any(map(alive, children.values())))
    async with serving(tmp_path / "data") as again:
        assert (await again.get("/api/groups")).status_code == 200, "and the directory is free again"


async def test_a_service_that_cannot_start_is_named_with_what_it_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "management/readmodel.db").mkdir(parents=True)
    server = Server(data)
    code, said = await whimbrel(*server.arguments, "--log-level", "error")
    assert code == 1
    assert str(data / "management/readmodel.db") in said
    assert len(said.splitlines()) == 1, said


@pytest.mark.parametrize("damage", ["missing", "garbage"])
async def test_management_without_usable_credentials_gets_one_line(tmp_path: Path, damage: str) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for role in ("management", "system", "issuer"):
        seed_file(keys / f"{role}.nk", "account" if role == "issuer" else "user")
    if damage == "garbage":
        (keys / "callout.nk").write_text("no seed")
    arguments = ("--bus", "nats://127.0.0.1:1", "--credentials", str(keys), "--data-dir", str(tmp_path / "data"))
    code, said = await whimbrel("management", *arguments, "--log-level", "error")
    assert code == 1
    assert str(keys / "callout.nk") in said
    assert len(said.splitlines()) == 1, said


async def test_connections_that_ask_nothing_keep_nobody_from_the_api(tmp_path: Path) -> None:
    """They need no token: anybody who reaches the port can open some hundreds."""
    async with serving(tmp_path / "data") as server:
        host, port = server.api.split(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(500)]
        try:
            assert (await server.get("/api/groups")).status_code == 200
        finally:
            for _, writer in idle:
                writer.close()


@pytest.mark.parametrize("existing", [False, True], ids=["made by the server", "made before, for everybody"])
async def test_nobody_else_on_the_machine_can_read_what_the_server_keeps(tmp_path: Path, existing: bool) -> None:
    data = tmp_path / "data"
    before = os.umask(0)
    try:
        if existing:
            data.mkdir(mode=0o755)
        async with serving(data) as server:
            assert (await server.post("/api/groups", {"name": "office"})).status_code == 200
            open_to_others = [path for path in data.rglob("*") if path.stat().st_mode & 0o007]
    finally:
        os.umask(before)
    assert open_to_others == []


async def test_a_request_at_work_is_finished_before_the_api_stops() -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # type: ignore[comparison-overlap]
            return
        begun.set()
        await finish.wait()
        start: Any = {"type": "http.response.start", "status": 200, "headers": []}
        body: Any = {"type": "http.response.body", "body": b"finished", "more_body": False}
        await send(start)
        await send(body)

    port = free_port()
    running = asyncio.create_task(serve(app, Listen("127.0.0.1", port)))
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:

        async def get() -> bytes:
            return (await client.get(f"http://127.0.0.1:{port}/")).content

        async def accepted() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(accepted)
        asking = asyncio.create_task(get())
        await asyncio.wait_for(begun.wait(), 10)
        running.cancel()
        finish.set()
        assert await asyncio.wait_for(asking, 10) == b"finished"
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 10)
        assert not await accepted()
