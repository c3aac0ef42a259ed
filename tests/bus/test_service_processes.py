"""Signal and resolver as processes: how they start, wait, refuse and stop."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.bus.embedded.config import credentials
from tests.support.bus import LIMIT_S, Bus, eventually

SERVICES = ["signal", "resolver"]
CONSUMERS = {"signal": 1, "resolver": 4}
NOBODY = "nats://127.0.0.1:9"  # the discard port, where nothing listens


class Service:
    """A service's process. lines: what it logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.text.append(line.decode().rstrip())
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(line))

    def logged(self, event: str) -> int:
        return sum(line["event"].startswith(event) for line in self.lines)

    def said(self) -> list[str]:
        """All of it but whose turn it is, which one that ends at once does not hear."""
        return [line["event"] for line in self.lines if line["event"] != "this replica resolves"]

    async def ended(self, within_s: float = LIMIT_S) -> int:
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
            await self._reading
            return code

    async def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await self.ended()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


@contextlib.asynccontextmanager
async def started(name: str, *options: str, **environment: str) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}", *options),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    service = Service(process)
    try:
        yield service
    finally:
        service.kill()
        await service.ended()


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    credentials(tmp_path / "seeds")
    return tmp_path / "seeds"


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_stops_cleanly_when_it_is_told_to(bus: Bus, name: str) -> None:
    async with started(name, "--bus", bus.url, "--credentials", str(bus.seeds / f"{name}.nk")) as service:
        await eventually(lambda: consumers_of(bus, CONSUMERS[name]))
        assert await service.stop() == 0
        assert service.said() == ["starting", "stopped"]


async def consumers_of(bus: Bus, expected: int) -> bool:
    streams = [await bus.management.jetstream().stream_info(name) for name in ("FACTS", "FEED")]
    return sum(stream.state.consumer_count for stream in streams) == expected


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_says_that_the_bus_is_gone_and_that_it_is_back(bus: Bus, name: str) -> None:
    async with started(name, "--bus", bus.url, "--credentials", str(bus.seeds / f"{name}.nk")) as service:
        await eventually(lambda: consumers_of(bus, CONSUMERS[name]))
        await bus.restart()
        await eventually(lambda: service.logged("the bus is back"))
        assert await service.stop() == 0
        said = [line["event"] for line in service.lines]
        assert said.index("bus trouble, going on trying") < said.index("the bus is back")
        [back] = (line for line in service.lines if line["event"] == "the bus is back")
        assert back["after_s"] > 0.0


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_comes_before_the_streams_waits_without_a_word(bare_bus: Bus, name: str) -> None:
    options = ("--bus", bare_bus.url, "--credentials", str(bare_bus.seeds / f"{name}.nk"))
    system = await bare_bus.service("system")

    async def has_asked() -> bool:
        answer = await system.request("$SYS.REQ.SERVER.PING.CONNZ", b"{}", timeout=LIMIT_S)
        connections = json.loads(answer.data)["data"]["connections"]
        return any(each.get("name") == name and each["in_msgs"] for each in connections)

    async with started(name, *options) as service:
        await eventually(has_asked)
        await bare_bus.make_streams()
        await eventually(lambda: consumers_of(bare_bus, CONSUMERS[name]))
        assert await service.stop() == 0
        assert service.said() == ["starting", "stopped"]


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_waits_for_the_bus_with_one_line_and_stops_while_it_waits(seeds: Path, name: str) -> None:
    async with started(name, WHIMBREL_BUS=NOBODY, WHIMBREL_CREDENTIALS=str(seeds / f"{name}.nk")) as service:
        await eventually(lambda: service.logged("bus trouble"))
        assert await service.stop() == 0
        assert service.logged("bus trouble") == 1


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        pytest.param(["--bus", NOBODY], 2, "--credentials (WHIMBREL_CREDENTIALS)", id="an option is missing"),
        pytest.param(["--bus", NOBODY, "--credentials", "no/such.nk"], 1, "no/such.nk", id="no credentials"),
        pytest.param(["--bus", NOBODY, "--credentials", "broken"], 1, "broken", id="unreadable credentials"),
        pytest.param(
            ["--bus", NOBODY, "--credentials", "x", "--log-level", "loud"], 2, "--log-level", id="a bad choice"
        ),
    ],
)
async def test_what_a_service_cannot_start_with_is_one_line(
    tmp_path: Path, name: str, options: list[str], code: int, named: str
) -> None:
    (tmp_path / "broken").write_text("SUAKEYTHATISNONE\n")
    options = [str(tmp_path / "broken") if option == "broken" else option for option in options]
    async with started(name, *options) as service:
        assert await service.ended() == code
        complaints = [line for line in service.text if not line.startswith("{")]
        assert len(complaints) == 1
        assert named in complaints[0]
        assert "SUAKEY" not in complaints[0]


async def test_a_metrics_port_in_use_is_named(bus: Bus, seeds: Path) -> None:
    port = bus.url.rpartition(":")[2]
    options = ("--bus", bus.url, "--credentials", str(seeds / "signal.nk"), "--metrics-port", port)
    async with started("signal", *options) as service:
        assert await service.ended() == 1
        assert service.text[-1] == f"whimbrel signal: 127.0.0.1:{port} is in use: choose another with --metrics-port"
