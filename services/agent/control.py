"""The agent's socket: one JSON object a line in, one a line out."""

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from services.agent.errors import AlreadyRunning
from services.agent.ports import Request

LINE_LIMIT = 64 * 1024
LAST_WORDS_S = 1.0


Handler: TypeAlias = Callable[[Request], Awaitable[object]]
"""Gives what is encoded as `result`."""


class Control:
    """The server on a unix socket of mode 0600. handlers: `do` of a request → its handler."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen, in place of a socket that a killed agent left. Raises AlreadyRunning when one answers there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _clear(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_LIMIT)

    async def stop(self) -> None:
        """Stop listening; answers on their way are still given."""
        if self._server is None:
            return
        self._server.close()
        self._path.unlink(missing_ok=True)
        if self._open:
            await asyncio.wait(self._open, timeout=LAST_WORDS_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._open.add(serving)
        try:
            while line := await reader.readline():
                writer.write(await self._answer(line) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond the limit
        finally:
            self._open.discard(serving)
            writer.close()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            return msgspec.json.encode({"error": f"not a request: {problem}"})
        handler = self._handlers.get(request.do)
        if handler is None:
            return msgspec.json.encode({"error": f"this agent does not know {request.do!r}"})
        try:
            return msgspec.json.encode({"result": await handler(request)})
        except OSError as problem:  # a choice that cannot be kept on disk
            return msgspec.json.encode(
                {"error": f"the choice cannot be kept on disk, nothing is changed: {problem.strerror or problem}"}
            )


def _clear(path: Path) -> None:
    """Make room at `path`: a socket that nobody serves is removed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError as problem:
            if problem.errno == errno.ECONNREFUSED and path.is_socket():
                path.unlink()
            if problem.errno in (errno.ENOENT, errno.ECONNREFUSED) and not path.exists():
                return
    raise AlreadyRunning(f"{path} is in use: stop the agent that serves it with `whimbrel down --socket {path}`")
