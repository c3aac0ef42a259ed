"""What a real DNS server's answers become."""

from pathlib import Path

import pytest

from services.resolver import upstream
from services.resolver.core.answers import Answer
from services.resolver.upstream import DnsServers
from shared.errors import BadSetting
from tests.support.dns import GARBAGE, SERVFAIL, SILENCE, DnsServer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "PER_TRY_S", 0.2)
    monkeypatch.setattr(upstream, "PER_QUESTION_S", 0.5)


@pytest.mark.parametrize(
    ("zone", "answer"),
    [
        pytest.param(
            {"a.example": ["A 192.0.2.2", "A 192.0.2.1", "AAAA 2001:db8::1"]},
            Answer(v4=("192.0.2.1", "192.0.2.2"), v6=("2001:db8::1",)),
            id="both families",
        ),
        pytest.param({"a.example": ["A 192.0.2.1"]}, Answer(v4=("192.0.2.1",), v6=()), id="IPv4 only"),
        pytest.param({"a.example": ["AAAA 2001:db8::1"]}, Answer(v4=(), v6=("2001:db8::1",)), id="IPv6 only"),
        pytest.param(
            {"a.example": ["CNAME b.example."], "b.example": ["CNAME c.example."], "c.example": ["A 192.0.2.1"]},
            Answer(v4=("192.0.2.1",), v6=()),
            id="a chain of aliases",
        ),
        pytest.param({"a.example": ["TXT text"]}, Answer(v4=(), v6=()), id="no addresses"),
        pytest.param({"a.example": ["A 127.0.0.1", "A 192.0.2.1"]}, Answer(v4=("192.0.2.1",), v6=()), id="unusable"),
        pytest.param({}, Answer(v4=(), v6=()), id="the name does not exist"),
        pytest.param({"a.example": SERVFAIL}, Answer(v4=None, v6=None), id="the server fails"),
        pytest.param({"a.example": SILENCE}, Answer(v4=None, v6=None), id="the server is silent"),
        pytest.param({"a.example": GARBAGE}, Answer(v4=None, v6=None), id="the server talks nonsense"),
    ],
)
async def test_an_answer_says_what_each_family_brought(
    dns_server: DnsServer, zone: dict[str, list[str] | str], answer: Answer
) -> None:
    dns_server.zone = zone
    assert await DnsServers((dns_server.address,)).look_up("a.example") == answer


async def test_the_next_server_is_asked_when_one_is_silent(dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    silent = DnsServer()
    silent.zone = {"a.example": SILENCE}
    await silent.start("127.0.0.1")
    try:
        found = await DnsServers((silent.address, dns_server.address)).look_up("a.example")
    finally:
        silent.stop()
    assert found == Answer(v4=("192.0.2.1",), v6=())


async def test_a_server_may_be_reached_over_ipv6() -> None:
    server = DnsServer()
    server.zone = {"a.example": ["A 192.0.2.1"]}
    await server.start("::1")
    try:
        assert (await DnsServers((server.address,)).look_up("a.example")).v4 == ("192.0.2.1",)
    finally:
        server.stop()


async def test_a_single_label_is_not_completed_with_the_hosts_search_domains(dns_server: DnsServer) -> None:
    dns_server.zone = {"printer": ["A 192.0.2.1"]}
    assert (await DnsServers((dns_server.address,)).look_up("printer")).v4 == ("192.0.2.1",)
    assert {name for name, _ in dns_server.asked} == {"printer"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_how_a_server_may_be_written(text: str, expected: tuple[str, int]) -> None:
    assert upstream.address_and_port(text) == expected


@pytest.mark.parametrize("text", ["dns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1]x", "[::1"])
def test_what_is_no_server_is_refused_with_the_form_to_use(text: str) -> None:
    with pytest.raises(BadSetting, match="--dns-servers"):
        DnsServers((text,))


async def test_the_hosts_servers_are_read_again_when_they_change(
    dns_server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "resolv.conf"
    monkeypatch.setattr(upstream, "RESOLV_CONF", conf)
    servers = DnsServers(())
    assert await servers.look_up("a.example") == Answer(v4=None, v6=None)
    conf.write_text("nameserver 192.0.2.53\n")
    await servers.look_up("a.example")
    assert servers.addresses == ["192.0.2.53"]
    conf.write_text("nameserver 2001:db8::53\noptions timeout:1\n")
    await servers.look_up("a.example")
    assert servers.addresses == ["2001:db8::53"]
