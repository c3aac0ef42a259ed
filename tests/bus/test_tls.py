"""TLS on the bus: who is believed, what is said of who is not, and that nothing is ever sent in clear instead."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.agent.bus.dial import Dialer
from services.agent.ports import Login
from shared.bus.address import parse_bus
from shared.bus.connection import connect
from shared.errors import BusUnavailable
from tests.bus.agent.plane import Plane
from tests.support.bus import Bus, eventually
from tests.support.tls import Authority

HOST = "127.0.0.1"
SETUP_KEY = "0CD76A3C-7A8B-4F0E-9C3B-1A2B3C4D5E6F"
ENROL = Login(name="enrol", inbox="enrol", user="enrol", password=SETUP_KEY)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "tls")
    authority.issue(HOST)
    return authority


@pytest.fixture
async def tls_plane(tmp_path: Path, authority: Authority) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path, authority)
    await plane.start()
    yield plane
    await plane.stop()


async def refusal(url: str, ca: Path | None) -> str:
    """Why a host does not connect."""
    with pytest.raises(BusUnavailable) as refused:
        await Dialer(url, ca)(ENROL)
    return str(refused.value).removeprefix(f"bus {url}: ")


async def admitted(url: str, ca: Path) -> None:
    await (await Dialer(url, ca)(ENROL)).close()


async def test_hosts_and_services_connect_and_are_admitted_as_without(tls_plane: Plane, authority: Authority) -> None:
    assert tls_plane.url.startswith("tls://")
    await admitted(tls_plane.url, authority.ca)
    client = await Dialer(tls_plane.url, authority.ca)(ENROL)
    assert client._transport._io_writer.get_extra_info("cipher")  # type: ignore[union-attr]
    await client.close()
    assert await tls_plane.values_ever("LOG") == 0, "and a service has its streams"


async def test_trust_is_read_anew_for_each_connection(tls_plane: Plane, authority: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(authority.ca.read_bytes())
    dial = Dialer(tls_plane.url, trusted)
    trusted.unlink()
    with pytest.raises(BusUnavailable, match=r"--bus-ca \(WHIMBREL_BUS_CA\): .*trusted.crt: No such file"):
        await dial(ENROL)
    trusted.write_bytes(authority.ca.read_bytes())
    await (await dial(ENROL)).close()


async def test_the_servers_own_certificate_may_be_what_is_trusted(tls_plane: Plane, authority: Authority) -> None:
    await admitted(tls_plane.url, authority.files.cert)


async def test_a_certificate_that_is_not_to_be_trusted_is_refused_with_the_remedy(
    tls_plane: Plane, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    assert await refusal(tls_plane.url, stranger.ca) == (
        "its certificate is from an authority that this host does not know: name its certificate in --bus-ca"
    )
    assert await refusal(tls_plane.url, None) == await refusal(tls_plane.url, stranger.ca), "as the system's"
    assert await refusal(tls_plane.url.replace(HOST, "localhost"), authority.ca) == (
        "its certificate is not for localhost: write a name in --bus that it is for, or get one for localhost"
    )


@pytest.mark.parametrize(
    ("from_days", "to_days", "said"),
    [
        (-9, -1, "its certificate has expired: renew it, or put this host's clock right"),
        (1, 9, "its certificate is not valid yet: put this host's clock right"),
    ],
)
async def test_a_certificate_out_of_its_time_is_refused_until_the_server_has_another(
    tmp_path: Path, authority: Authority, from_days: int, to_days: int, said: str
) -> None:
    authority.issue(HOST, from_days=from_days, to_days=to_days)
    bus = Bus(tmp_path, authority)
    await bus.server.start()
    service = asyncio.create_task(connect(bus.url, bus.keys.management, "management", ca=authority.ca))
    try:
        assert await refusal(bus.url, authority.ca) == said
        assert not service.done()
        authority.issue(HOST)
        bus.server.reload()
        await (await asyncio.wait_for(service, 20)).close()
    finally:
        service.cancel()
        await bus.server.stop()


async def test_a_renewed_certificate_serves_whoever_connects_from_then_on(
    tls_plane: Plane, authority: Authority
) -> None:
    client = tls_plane.management
    before, renewed = served(tls_plane.url, authority), authority.issue(HOST).cert.read_text()
    tls_plane.server.reload()
    await eventually(lambda: served(tls_plane.url, authority) != before)
    await admitted(tls_plane.url, authority.files.cert)
    await client.flush()
    assert client.stats["reconnects"] == 0, "a service keeps its connection"
    assert authority.files.cert.read_text() == renewed


def served(url: str, authority: Authority) -> bytes:
    """The certificate that the server shows."""
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection((HOST, port), timeout=10) as opened,
        parse_bus(url, authority.ca).context().wrap_socket(opened, server_hostname=HOST) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


async def test_a_plain_address_of_a_server_with_tls_is_told_so_and_sends_nothing(
    tls_plane: Plane, authority: Authority
) -> None:
    plain = tls_plane.url.replace("tls:", "nats:")
    assert await refusal(plain, None) == "it requires TLS: write tls:// instead of nats:// in --bus"


class Eavesdropper:
    """Listens, says what a plain server says first, and keeps what it hears."""

    GREETING = b'INFO {"server_id":"x","version":"2.15.1","proto":1,"max_payload":1048576,"auth_required":true}\r\n'

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self.heard = b""

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._talk, HOST, 0)
        return f"tls://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._greeting)
        while said := await reader.read(65536):
            self.heard += said
            if not self._greeting:
                break
        writer.close()

    def stop(self) -> None:
        self._server.close()


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (Eavesdropper.GREETING, "what answers there does not speak TLS"),
        (b"220 mail.example ESMTP\r\n", "what answers there does not speak TLS"),
        (b"", "it hangs up before it has shown a certificate"),
    ],
    ids=["a plain bus", "a mail server", "nobody"],
)
async def test_no_secret_goes_to_a_server_without_tls(authority: Authority, greeting: bytes, said: str) -> None:
    other = Eavesdropper(greeting)
    url = await other.start()
    try:
        assert (await refusal(url, authority.ca)).startswith(said)
        assert b"CONNECT" not in other.heard
        assert SETUP_KEY.encode() not in other.heard
    finally:
        other.stop()


async def test_a_service_that_lost_its_bus_comes_back_over_tls(tls_plane: Plane, authority: Authority) -> None:
    service = await tls_plane.service("signal")
    authority.issue(HOST)
    await tls_plane.restart()
    await eventually(lambda: service.is_connected and service.stats["reconnects"] == 1, within_s=20)
    await service.flush()
    assert service._transport._io_writer.get_extra_info("cipher")  # type: ignore[union-attr]
