"""Connections to the bus: marked, quick to say what is wrong, and patient with a bus that waits for management."""

import asyncio
import socket

import pytest

from services.agent.bus.dial import Dialer
from services.agent.core.kernel import CONTROL_MARK
from services.agent.errors import AdmissionRefused
from services.agent.ports import Login
from shared.bus.client import NotPermitted
from shared.bus.keys import new_seed, public_key
from shared.errors import BusUnavailable
from shared.events import subjects
from tests.bus.agent.plane import ACCOUNT, Plane
from tests.support.bus import eventually


def login(plane: Plane, *, known: bool = True) -> Login:
    seed = new_seed("user")
    if known:
        plane.peers[public_key(seed)] = "me"
    return Login(name="agent-me", inbox="me", seed=seed)


@pytest.mark.root
async def test_the_connection_is_marked_so_that_no_exit_route_takes_it(plane: Plane) -> None:
    client = await Dialer(plane.url)(login(plane))
    transport = client._transport
    assert transport is not None
    opened = transport._io_writer.get_extra_info("socket")  # type: ignore[attr-defined]
    assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == CONTROL_MARK
    await client.close()


async def test_the_bus_may_be_named(plane: Plane) -> None:
    dial = Dialer(plane.url.replace("127.0.0.1", "localhost"))
    client = await dial(login(plane))
    assert client.is_connected
    assert "127.0.0.1" in dial.known["localhost"]
    await client.close()


async def test_a_bus_that_cannot_be_resolved_any_more_is_found_where_it_was(plane: Plane) -> None:
    url = plane.url.replace("127.0.0.1", "bus.invalid")
    dial = Dialer(url)
    with pytest.raises(BusUnavailable):
        await dial(login(plane))
    dial.known["bus.invalid"] = ("127.0.0.1",)
    client = await dial(login(plane))
    assert client.is_connected
    await client.close()


async def test_an_unknown_peer_is_refused(plane: Plane) -> None:
    with pytest.raises(AdmissionRefused):
        await Dialer(plane.url)(login(plane, known=False))


async def test_a_subject_that_the_bus_refuses_is_told_by_name_and_the_connection_goes_on(plane: Plane) -> None:
    """nats-py tells of it with an error that has no name, from a method that is not public (shared/bus/client.py)."""
    told: list[Exception] = []

    async def on_error(problem: Exception) -> None:
        told.append(problem)

    client = await Dialer(plane.url)(login(plane), on_error)
    await client.publish(subjects.beat(ACCOUNT, "other"), b"")
    await client.subscribe(subjects.signals_to(ACCOUNT, "other"))
    await client.flush()
    await eventually(lambda: len(told) == 2)
    assert [type(problem) for problem in told] == [NotPermitted, NotPermitted]
    assert client.is_connected
    await client.close()


async def test_without_management_the_bus_refuses_after_its_own_patience(plane: Plane) -> None:
    await plane.management.close()
    with pytest.raises(AdmissionRefused):
        await Dialer(plane.url)(login(plane))


async def test_nothing_that_listens_is_named_with_its_address(plane: Plane) -> None:
    await plane.server.stop()
    with pytest.raises(BusUnavailable, match=r"bus nats://127.0.0.1:\d+: Connect call failed"):
        await Dialer(plane.url)(login(plane))


async def test_what_is_no_nats_server_is_said_to_be_none() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BusUnavailable, match="no NATS server"):
        await Dialer(f"nats://127.0.0.1:{port}")(Login(name="x", inbox="x", user="a", password="b"))
    server.close()


async def test_the_next_attempt_goes_to_the_next_address(plane: Plane) -> None:
    dial = Dialer(f"nats://127.0.0.1:9,{plane.url}")
    with pytest.raises(BusUnavailable):
        await dial(login(plane))
    client = await dial(login(plane))
    assert client.is_connected
    await client.close()
