"""`python -m deploy.nats.serve`, the first program of a bus's container: signals, ends, full disks."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.nats import serve
from shared.bus.embedded.config import Node, cluster_password, credentials
from shared.net.listen import Listen
from tests.support.bus import LIMIT_S, eventually
from tests.support.ports import free_port
from tests.support.stackserver import StackServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[StackServer]:
    server = StackServer(tmp_path / "bus", credentials(tmp_path / "keys"), tmp_path / "bus.log")
    await server.start()
    yield server
    await server.stop()


async def ended(server: StackServer) -> int:
    return await asyncio.wait_for(server.wait(), LIMIT_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_that_stops_it_stops_the_server_in_good_order(
    server: StackServer, number: signal.Signals
) -> None:
    server.send(number)
    assert await ended(server) == 0
    assert server.said("Server Exiting")


async def test_a_signal_to_read_the_configuration_anew_reaches_the_server(server: StackServer) -> None:
    child = server.child()
    server.send(signal.SIGHUP)
    await eventually(lambda: server.said("Reloaded server configuration"))
    assert server.child() == child


async def test_a_server_that_ends_by_itself_ends_the_container(server: StackServer) -> None:
    child = server.child()
    assert child is not None
    child.kill()
    assert await ended(server) == 128 + signal.SIGKILL


async def test_no_server_outlives_it(server: StackServer) -> None:
    child = server.child()
    assert child is not None
    server.kill()
    await ended(server)
    await eventually(lambda: not child.is_running())


def test_the_first_line_is_why_the_server_does_not_start(tmp_path: Path) -> None:
    config = tmp_path / "server.conf"
    config.write_text("jetstream {")
    command = [sys.executable, "-m", "deploy.nats.serve", f"--config={config}"]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
    assert run.returncode == 1
    assert run.stdout.startswith("nats-server: ")


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> serve.Server:
    """A server that does nothing."""
    monkeypatch.setattr(serve, "executable", lambda: Path("/bin/sleep"))
    return serve.Server("60")


async def running(sleeper: serve.Server, other_than: int = 0) -> int:
    """Process id of one that runs."""

    def look() -> int:
        process = sleeper._process
        return process.pid if process and process.returncode is None and process.pid != other_than else 0

    return int(await eventually(look))


async def test_it_is_started_again_until_it_is_to_stop(sleeper: serve.Server) -> None:
    run = asyncio.create_task(sleeper.run())
    first = await running(sleeper)
    await sleeper.start_again()
    await running(sleeper, other_than=first)
    sleeper.send(signal.SIGTERM)
    assert await asyncio.wait_for(run, LIMIT_S) == -signal.SIGTERM


@pytest.mark.parametrize("stop_first", [True, False], ids=["stop first", "start first"])
async def test_a_stop_that_meets_a_new_start_is_not_lost(sleeper: serve.Server, *, stop_first: bool) -> None:
    run = asyncio.create_task(sleeper.run())
    await running(sleeper)
    if stop_first:
        sleeper.send(signal.SIGTERM)
        await sleeper.start_again()
    else:
        again = asyncio.create_task(sleeper.start_again())
        await asyncio.sleep(0)  # it is told to end
        sleeper.send(signal.SIGTERM)
        await again
    assert await asyncio.wait_for(run, LIMIT_S) == -signal.SIGTERM


ALONE: Any = {"cluster": {}}
MEMBER: Any = {"cluster": {"name": "whimbrel"}}
GAVE_UP = "JetStream not enabled (10076)"
ELECTING = "JetStream has not established contact with a meta leader"


def answering(varz: Any, whole: tuple[int, str], enabled: tuple[int, str]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/varz":
            return httpx.Response(200, json=varz)
        status, error = enabled if "js-enabled-only" in request.url.params else whole
        return httpx.Response(status, json={"status": "ok" if status == 200 else "unavailable", "error": error})

    return answer


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (answering(ALONE, (200, ""), (200, "")), ""),
        (answering(ALONE, (503, "no space left on device"), (200, "")), "no space left on device"),
        (answering(ALONE, (500, "not ready"), (500, "not ready")), None),
        (answering(MEMBER, (200, ""), (200, "")), ""),
        (answering(MEMBER, (503, ELECTING), (200, "")), ""),
        (answering(MEMBER, (503, GAVE_UP), (503, GAVE_UP)), GAVE_UP),
        (lambda _: httpx.Response(200, text="a page of something else"), None),
        (silent, None),
    ],
    ids=["alone", "alone, full", "starting", "member", "no leader", "member, full", "something else", "no answer"],
)
async def test_what_counts_as_unable_to_write(
    pages: Callable[[httpx.Request], httpx.Response], expected: str | None
) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(pages), base_url="http://bus") as monitor:
        assert await serve.write_error(monitor) == expected


async def test_a_member_that_waits_for_the_others_is_not_one_with_a_full_disk(tmp_path: Path) -> None:
    members = tuple(Listen("127.0.0.1", free_port()) for _ in range(3))
    node = Node(name="bus", listen=members[0], members=members, password=cluster_password(tmp_path))
    server = StackServer(tmp_path / "bus", credentials(tmp_path / "keys"), tmp_path / "bus.log", node=node)
    await server.start()
    try:

        async def waits() -> bool:
            well, said = await server.health()
            return not well and "unavailable" in said

        await eventually(waits)
        async with httpx.AsyncClient(base_url=server.monitor, trust_env=False) as monitor:
            assert await serve.write_error(monitor) == ""
    finally:
        await server.stop()
