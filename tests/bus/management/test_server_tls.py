"""`whimbrel server` with a certificate for its bus."""

import signal
import socket
from pathlib import Path

import pytest

from services.agent.bus.dial import Dialer
from services.agent.bus.enrolment import enrol
from services.agent.errors import EnrolmentRefused
from services.agent.ports import Login
from shared.bus.address import parse_bus
from shared.errors import BusUnavailable
from shared.events.signals import EnrolRequest
from tests.builders import bus_key, meta, wireguard_key
from tests.bus.management.processes import ANY_PORT, Server, serving, whimbrel
from tests.support.bus import eventually
from tests.support.tls import Authority

NAME = "localhost"
"""What the certificate is for; the services reach the bus at 127.0.0.1."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path / "tls")
    authority.issue(NAME)
    return authority


def options(authority: Authority) -> tuple[str, ...]:
    return ("--bus-cert", str(authority.files.cert), "--bus-key", str(authority.files.key))


def url(server: Server) -> str:
    return f"tls://{NAME}:{server.bus.rpartition(':')[2]}"


def shown(server: Server, authority: Authority) -> bytes:
    """The certificate that the bus shows."""
    context = parse_bus(url(server), authority.ca).context()
    with (
        socket.create_connection(("127.0.0.1", int(server.bus.rpartition(":")[2])), timeout=10) as opened,
        context.wrap_socket(opened, server_hostname=NAME) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


async def enrolment(server: Server, authority: Authority) -> str:
    """What management answers to a host with a setup key that it does not know."""
    request = EnrolRequest(wireguard_key=wireguard_key("h"), bus_key=bus_key("h"), meta=meta("h"))
    with pytest.raises(EnrolmentRefused) as refused:
        await enrol(Dialer(url(server), authority.ca), "no such key", request)
    return refused.value.reason


async def refused_renewal(server: Server, why: str) -> None:
    server.process.send_signal(signal.SIGHUP)
    log = server.data_dir.parent / "server.err"
    await eventually(lambda: "the certificate stays as it was" in log.read_text() and why in log.read_text())


async def test_hosts_enrol_over_tls_only_and_a_renewed_certificate_needs_no_restart(
    tmp_path: Path, authority: Authority
) -> None:
    async with serving(tmp_path / "data", *options(authority)) as server:
        assert f"bus          {url(server)}\n" in server.said, "as hosts write it"
        assert await enrolment(server, authority) == "unknown"
        with pytest.raises(BusUnavailable, match="it requires TLS: write tls://"):
            await Dialer(url(server).replace("tls:", "nats:"))(Login(name="x", inbox="x", user="x", password="x"))

        before, children = shown(server, authority), server.children()
        authority.issue(NAME)
        server.process.send_signal(signal.SIGHUP)
        await eventually(lambda: shown(server, authority) != before)
        assert await enrolment(server, authority) == "unknown"

        good = shown(server, authority)
        authority.issue(NAME, from_days=-9, to_days=-1)
        await refused_renewal(server, "certificate has expired")
        authority.issue("bus.example.com")
        await refused_renewal(server, "the new one is not for localhost")
        assert shown(server, authority) == good
        assert {name: child.pid for name, child in server.children().items()} == {
            name: child.pid for name, child in children.items()
        }


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--bus-cert", "bus.crt"), "give --bus-cert and --bus-key together"),
        (("--bus-key", "bus.key"), "give --bus-cert and --bus-key together"),
        (("--bus-cert", "nowhere.crt", "--bus-key", "bus.key"), "nowhere.crt: No such file"),
        (("--bus-cert", "bus.key", "--bus-key", "bus.key"), "is not the key of"),
    ],
)
async def test_a_certificate_that_will_not_do_is_one_line(
    authority: Authority, tmp_path: Path, given: tuple[str, ...], named: str
) -> None:
    words = [str(authority.files.cert.parent / word) if word.startswith(("bus.", "no")) else word for word in given]
    place = ("--data-dir", str(tmp_path / "data"), "--api", ANY_PORT, "--bus", ANY_PORT)
    code, said = await whimbrel("server", *place, *words, "--log-level", "error")
    assert code == 2
    assert named in said
    assert len(said.splitlines()) == 1, said
