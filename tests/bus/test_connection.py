"""A service's connection when servers hang or end."""

import asyncio
import os
import signal
from pathlib import Path

import nats.errors
import pytest
from nats.aio.msg import Msg

from shared.bus import connection as connection_module
from shared.bus.address import parse_bus
from shared.bus.client import BusClient
from shared.bus.connection import connect
from shared.bus.embedded.config import credentials
from shared.bus.embedded.server import NatsServer
from shared.bus.keys import new_seed
from shared.bus.transport import BusTransport
from shared.events import subjects
from tests.support.bus import LIMIT_S, Bus, eventually


async def test_a_service_leaves_a_server_that_hangs_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PING_EVERY_S", 0.2)
    keys = credentials(tmp_path / "keys")
    servers = [NatsServer(tmp_path / name, keys) for name in ("a", "b")]
    try:
        for server in servers:
            await server.start()
        service = await connect(",".join(server.url for server in servers), keys.signal, "signal")

        def address() -> str:
            assert service.connected_url is not None
            return service.connected_url.geturl()

        [hung] = [server for server in servers if server.url == address()]
        os.kill(hung.pid, signal.SIGSTOP)
        await eventually(lambda: service.is_connected and address() != hung.url, within_s=20)
        await service.close()
    finally:
        for server in servers:
            server.kill()
            await server.wait()


async def test_a_connection_that_is_lost_while_it_closes_ends_without_an_error(tmp_path: Path) -> None:
    """Closing sends what waits first."""
    keys = credentials(tmp_path / "keys")
    server = NatsServer(tmp_path / "a", keys)
    try:
        await server.start()
        service = await connect(server.url, keys.management, "management")
        await service.publish("log.a", b"waits")
        service._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        await service.close()
        assert service.is_closed
    finally:
        server.kill()
        await server.wait()


@pytest.mark.parametrize("says", ["PONG", "-ERR 'Authorization Violation'"])
async def test_a_server_that_asks_first_whether_somebody_is_there_is_heard_out(says: str) -> None:
    """As it does when it waits for management's word about who comes in."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"a","nonce":"b","max_payload":1,"headers":true}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PING\r\n")
        heard.append(await reader.readline())
        writer.write(says.encode() + b"\r\n")
        while await reader.read(1024):  # what it says goodbye with
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        bus = parse_bus(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        client = BusClient(BusTransport(bus))
        connecting = client.connect(list(bus.urls), nkeys_seed_str=new_seed("user"), allow_reconnect=False)
        if says == "PONG":
            await connecting
            assert client.is_connected
        else:
            with pytest.raises(nats.errors.Error, match="Authorization Violation"):
                await connecting
        await client.close()
    assert heard == [b"PONG\r\n"]


async def test_a_cancellation_that_comes_with_an_answer_is_not_lost(tmp_path: Path) -> None:
    keys = credentials(tmp_path / "keys")
    server = NatsServer(tmp_path / "a", keys)
    try:
        await server.start()
        service = await connect(server.url, keys.management, "management")
        asking = asyncio.create_task(service.request("$JS.API.STREAM.INFO.LOG", b"", timeout=LIMIT_S))
        while not service._resp_map:  # faster than the answer
            await asyncio.sleep(0)
        [answer] = service._resp_map.values()
        answer.add_done_callback(lambda _: asking.cancel())
        await asyncio.wait([asking], timeout=LIMIT_S)
        assert asking.cancelled()
        await service.close()
    finally:
        server.kill()
        await server.wait()


async def test_after_a_flush_the_server_has_what_was_sent_before(bus: Bus) -> None:
    """Also when the client is too busy to send at once: nats-py's PING overtakes what waits."""
    hearing, telling = await bus.service("signal"), await bus.peer("account", "a")
    for number in range(100):
        subject = subjects.signal_from("account", "a", f"b{number}")
        heard = asyncio.Event()

        async def hear(_: Msg, heard: asyncio.Event = heard) -> None:
            heard.set()

        await hearing.subscribe(subject, cb=hear)
        await hearing.flush()
        await telling.publish(subject, b"")
        await telling.flush()
        await asyncio.wait_for(heard.wait(), LIMIT_S)
