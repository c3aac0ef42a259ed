"""What a real DNS server's answers become."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from services.resolver import upstream
from services.resolver.core.answers import Answer
from services.resolver.core.questions import Question
from services.resolver.core.servers import MISSES, parse_server
from services.resolver.upstream import DnsServers
from shared.errors import BadSetting
from shared.events.documents import ResolvingDoc, UpstreamServer
from tests.support.dns import GARBAGE, SERVFAIL, SILENCE, DnsServer, over_tls
from tests.support.tls import Authority


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
    found = await DnsServers((dns_server.address,)).look_up(Question("a.example"))
    assert replace(found, source="") == answer
    assert found.source == (dns_server.address if answer.v4 is not None else "")


async def test_the_next_server_is_asked_when_one_is_silent(dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    silent = DnsServer()
    silent.zone = {"a.example": SILENCE}
    await silent.start("127.0.0.1")
    try:
        found = await DnsServers((silent.address, dns_server.address)).look_up(Question("a.example"))
    finally:
        silent.stop()
    assert found == Answer(v4=("192.0.2.1",), v6=(), source=dns_server.address)


async def test_a_server_may_be_reached_over_ipv6() -> None:
    server = DnsServer()
    server.zone = {"a.example": ["A 192.0.2.1"]}
    await server.start("::1")
    try:
        assert (await DnsServers((server.address,)).look_up(Question("a.example"))).v4 == ("192.0.2.1",)
    finally:
        server.stop()


async def test_a_single_label_is_not_completed_with_the_hosts_search_domains(dns_server: DnsServer) -> None:
    dns_server.zone = {"printer": ["A 192.0.2.1"]}
    assert (await DnsServers((dns_server.address,)).look_up(Question("printer"))).v4 == ("192.0.2.1",)
    assert {name for name, _ in dns_server.asked} == {"printer"}


@pytest.mark.parametrize("text", ["dns.example", "tls://dns.example", "[::1"])
def test_what_is_no_server_is_refused_with_the_form_to_use(text: str) -> None:
    with pytest.raises(BadSetting, match="--dns-servers"):
        DnsServers((text,))


async def test_the_hosts_servers_are_read_again_when_they_change(
    dns_server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "resolv.conf"
    monkeypatch.setattr(upstream, "RESOLV_CONF", conf)
    servers = DnsServers(())
    assert await servers.look_up(Question("a.example")) == Answer(v4=None, v6=None)
    conf.write_text("nameserver 192.0.2.53\n")
    await servers.look_up(Question("a.example"))
    assert servers.own() == (UpstreamServer("192.0.2.53", 53),)
    conf.write_text("nameserver 2001:db8::53\noptions timeout:1\n")
    await servers.look_up(Question("a.example"))
    assert servers.own() == (UpstreamServer("2001:db8::53", 53),)


async def test_d7_a_dead_server_is_waited_for_by_the_first_questions_only(
    dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "PER_TRY_S", 0.2)
    monkeypatch.setattr(upstream, "PER_QUESTION_S", 5.0)
    dns_server.zone = {f"n{number}.example": ["A 192.0.2.1"] for number in range(100)}
    dead = DnsServer()
    dead.zone = dict.fromkeys(dns_server.zone, SILENCE)
    await dead.start("127.0.0.1")
    try:
        servers = DnsServers((dead.address, dns_server.address))
        for name in dns_server.zone:  # one after the other: 40 s if each waited for it
            assert (await servers.look_up(Question(name))).v4 == ("192.0.2.1",)
    finally:
        dead.stop()
    assert sum(dead.asked.values()) <= 2 * MISSES


async def test_a_server_that_fails_or_refuses_is_passed_over_for_the_next(dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    failing = DnsServer()
    failing.zone = {"a.example": SERVFAIL}
    await failing.start("127.0.0.1")
    try:
        nobody = "127.0.0.1:9"  # the discard port, where nothing listens
        found = await DnsServers((nobody, failing.address, dns_server.address)).look_up(Question("a.example"))
    finally:
        failing.stop()
    assert found == Answer(v4=("192.0.2.1",), v6=(), source=dns_server.address)


async def test_an_accounts_own_servers_and_no_others_are_asked_for_its_names(dns_server: DnsServer) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    own = DnsServer()
    own.zone = {"a.example": ["A 192.0.2.9"]}
    await own.start("127.0.0.1")
    try:
        servers = DnsServers((dns_server.address,))
        servers.of_accounts = {"acc": ResolvingDoc(servers=(parse_server(own.address),))}
        assert (await servers.look_up(Question("a.example", "acc"))).v4 == ("192.0.2.9",)
        assert (await servers.look_up(Question("a.example"))).v4 == ("192.0.2.1",)
    finally:
        own.stop()


async def test_over_tls_a_connection_serves_one_question_after_another(dns_server: DnsServer, tmp_path: Path) -> None:
    dns_server.zone = {f"n{number}.example": ["A 192.0.2.1", "AAAA 2001:db8::1"] for number in range(10)}
    authority = Authority(tmp_path)
    async with over_tls(dns_server, authority.issue("dns.example")) as tls:
        servers = DnsServers((f"tls://{tls.address}#dns.example",), authority.ca)
        for name in dns_server.zone:
            found = await servers.look_up(Question(name))
            assert found == Answer(v4=("192.0.2.1",), v6=("2001:db8::1",), source=f"tls://{tls.address}#dns.example")
        assert tls.connections == 2  # one for each family
        await tls.hang_up()
        assert (await servers.look_up(Question("n0.example"))).v4 == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("named", "asked", "trusted"),
    [
        pytest.param("other.example", "#dns.example", True, id="for another name"),
        pytest.param("dns.example", "", True, id="not for the address"),
        pytest.param("dns.example", "#dns.example", False, id="from an authority that is not trusted"),
    ],
)
async def test_over_tls_nothing_is_asked_of_a_server_whose_certificate_does_not_hold(
    dns_server: DnsServer, tmp_path: Path, named: str, asked: str, trusted: bool
) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    authority, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    async with over_tls(dns_server, authority.issue(named)) as tls:
        servers = DnsServers((f"tls://{tls.address}{asked}",), authority.ca if trusted else other.ca)
        assert await servers.look_up(Question("a.example")) == Answer(v4=None, v6=None)
    assert not dns_server.asked


async def test_over_tls_a_certificate_may_be_for_the_address(dns_server: DnsServer, tmp_path: Path) -> None:
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    authority = Authority(tmp_path)
    async with over_tls(dns_server, authority.issue("127.0.0.1")) as tls:
        servers = DnsServers((f"tls://{tls.address}",), authority.ca)
        assert (await servers.look_up(Question("a.example"))).v4 == ("192.0.2.1",)


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"--dns-ca .*no\.pem cannot be read"):
        DnsServers((), tmp_path / "no.pem")
