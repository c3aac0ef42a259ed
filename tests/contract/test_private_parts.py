"""What we touch of libraries behind their public face: a version that moves it shall fail here, with a sentence."""

import inspect
from urllib.parse import ParseResult

import nats.errors
import pytest
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.protocol import parser

from shared.bus.address import parse_bus
from shared.bus.client import BusClient, NotPermitted
from shared.bus.transport import BusTransport


class NeverConnects(BusTransport):
    asked = 0

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        self.asked += 1
        raise ConnectionRefusedError


async def test_nats_connects_over_the_transport_that_it_was_given() -> None:
    transport = NeverConnects(parse_bus("nats://127.0.0.1:9"))
    assert Client()._transport is None, "nats-py makes its transport earlier now: see shared/bus/client.py"
    client = BusClient(transport)
    with pytest.raises(nats.errors.NoServersError):
        await client.connect(["nats://127.0.0.1:9"], allow_reconnect=False, max_reconnect_attempts=1)
    assert transport.asked, (
        "nats-py ignores Client._transport: connections would be unmarked, and TLS the server's choice"
    )


def test_a_transport_keeps_its_streams_where_nats_looks_for_them() -> None:
    own = {"_bare_io_reader", "_bare_io_writer", "_io_reader", "_io_writer"}
    missing = own - vars(TcpTransport()).keys()  # type: ignore[no-untyped-call]
    assert not missing, f"nats-py's TcpTransport has no {missing}: BusTransport.connect sets what nothing reads"


def test_faststream_asks_its_broker_for_the_connection() -> None:
    assert inspect.iscoroutinefunction(NatsBroker._connect), "FastStream connects another way: see shared/bus/broker.py"
    source = inspect.getsource(NatsBroker._connect)
    assert "self.config.connect(" in source, (
        "FastStream's NatsBroker._connect hands its connection to something else now"
    )


def test_a_subscription_hands_out_by_its_callback() -> None:
    source = inspect.getsource(Subscription._wait_for_msgs)
    assert "self._cb(" in source, "tests replace Subscription._cb to withhold messages: find what nats-py calls instead"


def test_a_client_sends_what_waits_when_it_is_forced_to() -> None:
    assert "force_flush" in inspect.signature(Client._flush_pending).parameters, (
        "nats-py sends what waits another way: BusClient.flush relies on it"
    )


async def test_the_client_is_told_of_a_refused_subject_in_a_way_of_its_own() -> None:
    told: list[Exception] = []

    async def hear(problem: Exception) -> None:
        told.append(problem)

    client = BusClient(NeverConnects(parse_bus("nats://127.0.0.1:9")))
    client._error_cb = hear
    await client._process_err("'permissions violation for publish to \"a\"'")
    assert [type(problem) for problem in told] == [NotPermitted]
    source = inspect.getsource(Client._process_err)
    assert "PERMISSIONS_ERR" in source, "nats-py tells of a refused subject elsewhere now: see shared/bus/client.py"
    assert "_process_err(" in inspect.getsource(parser), "nats-py's parser calls something else for -ERR now"


async def test_a_client_knows_the_id_of_its_server() -> None:
    assert Client()._server_info == {}, "nats-py keeps what its server says elsewhere: see projector/succession.py"
