"""The agent's socket: private, one line each way, never in the way of the next agent."""

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.agent.control import Control
from services.agent.errors import AlreadyRunning
from services.agent.ports import Request


async def echo(request: Request) -> object:
    return {"ids": request.ids, "append": request.append}


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    control = Control(tmp_path / "run/wt0.sock", {"select": echo})
    await control.start()
    yield tmp_path / "run/wt0.sock"
    await control.stop()
    assert not (tmp_path / "run/wt0.sock").exists()


async def ask(path: Path, *lines: bytes) -> list[object]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"".join(line + b"\n" for line in lines))
    answers = [json.loads(await reader.readline()) for _ in lines]
    writer.close()
    return answers


async def test_each_request_gets_its_answer(path: Path) -> None:
    lines = b'{"do": "select", "ids": ["a", "b"], "append": true}', b'{"do": "select"}'
    assert await ask(path, *lines) == [
        {"result": {"ids": ["a", "b"], "append": True}},
        {"result": {"ids": [], "append": False}},
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "not a request"),
        (b"[]", "not a request"),
        (b'{"do": 5}', "not a request"),
        (b"\xff", "not a request"),
        (b'{"do": ' + b"[" * 10_000, "not a request"),
        (b'{"x": ' + b"[" * 10_000, "not a request"),
        (b'{"do": "dance"}', "does not know 'dance'"),
    ],
)
async def test_what_is_no_request_is_told_so(path: Path, line: bytes, says: str) -> None:
    [answer] = await ask(path, line)
    assert isinstance(answer, dict)
    assert says in answer["error"]


async def test_a_line_without_end_closes_the_connection(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"x" * 200_000)
    assert await reader.read() == b""
    writer.close()
    assert len(await ask(path, b"{}")) == 1


async def test_only_the_owner_may_ask(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_socket_that_a_killed_agent_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "wt0.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    control = Control(path, {"select": echo})
    await control.start()
    assert len(await ask(path, b'{"do": "select"}')) == 1
    await control.stop()


async def test_a_socket_that_is_served_is_left_alone(path: Path) -> None:
    with pytest.raises(AlreadyRunning, match="is in use: stop the agent"):
        await Control(path, {}).start()
    assert len(await ask(path, b'{"do": "select"}')) == 1


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AlreadyRunning):
        await Control(path, {}).start()
    assert path.read_text() == "data"
