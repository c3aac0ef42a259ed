"""The API of tests/unit/api on a port of loopback, and the command as a person types it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from services.cli.__main__ import main
from tests.support.api import served
from tests.unit.api.world import World, server


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def api() -> Iterator[str]:
    with served(server().app) as address:
        yield address


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def token_file(world: World, tmp_path: Path) -> Path:
    file = tmp_path / "admin.token"
    file.write_text(world.token("owner") + "\n")
    return file


@pytest.fixture
def whimbrel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: `whimbrel("status", WHIMBREL_SOCKET="/run/agent.sock")`."""
    for name in [name for name in os.environ if name.startswith("WHIMBREL_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, **environment: str) -> Result:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["whimbrel", *arguments])
            for name, value in environment.items():
                patched.setenv(name, value)
            capsys.readouterr()
            code = 0
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def admin(whimbrel: Run, api: str, token_file: Path) -> Run:
    """Runs `whimbrel admin …` as the owner of this test's account."""

    def run(*arguments: str, **environment: str) -> Result:
        return whimbrel("admin", *arguments, WHIMBREL_ADMIN_API=api, WHIMBREL_TOKEN_FILE=str(token_file), **environment)

    return run
