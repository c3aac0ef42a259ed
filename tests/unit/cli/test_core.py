"""What people type, as the API takes it."""

import pytest

from services.cli.core.names import Ambiguous, NotFound, find
from services.cli.core.nameservers import nameserver, upstream, written
from services.cli.core.ports import split_ports


@pytest.mark.parametrize(
    ("texts", "ports", "ranges"),
    [
        ([], [], []),
        ([""], [], []),
        (["443"], ["443"], []),
        (["80", "443"], ["80", "443"], []),
        (["80, 443"], ["80", "443"], []),
        (["8000-8010"], [], [{"start": 8000, "end": 8010}]),
        (["80,8000-8010"], [], [{"start": 80, "end": 80}, {"start": 8000, "end": 8010}]),
    ],
)
def test_one_range_makes_ranges_of_all_ports(texts: list[str], ports: list[str], ranges: list[dict[str, int]]) -> None:
    assert split_ports(texts) == (ports, ranges)


@pytest.mark.parametrize("text", ["1-", "-1", "-", "http-https", "1-2-3", "1-²"])
def test_what_is_no_range_gets_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="as in 8000-8010"):
        split_ports([text])


@pytest.mark.parametrize(
    ("text", "ip", "port"),
    [
        ("10.0.0.53", "10.0.0.53", 53),
        ("10.0.0.53:5300", "10.0.0.53", 5300),
        ("fd00::53", "fd00::53", 53),
        ("[fd00::53]", "fd00::53", 53),
        ("[fd00::53]:5300", "fd00::53", 5300),
        ("10.0.0.53:", "10.0.0.53:", 53),
        ("dns.example", "dns.example", 53),
        ("", "", 53),
    ],
)
def test_a_nameserver_is_an_address_with_a_port_if_need_be(text: str, ip: str, port: int) -> None:
    assert nameserver(text) == {"ip": ip, "ns_type": "udp", "port": port}


@pytest.mark.parametrize("text", ["10.0.0.53", "10.0.0.53:5300", "fd00::53", "[fd00::53]:5300"])
def test_a_nameserver_is_shown_as_it_is_typed(text: str) -> None:
    assert written(nameserver(text)) == text


@pytest.mark.parametrize(
    "text", ["10.0.0.53", "[fd00::53]:5300", "tls://10.0.0.53", "tls://10.0.0.53:8853#dns.example", "tls://fd00::53"]
)
def test_a_server_of_the_resolver_is_shown_as_it_is_typed(text: str) -> None:
    assert written(upstream(text)) == text


PEERS = [{"id": "1", "name": "gw"}, {"id": "2", "name": "twin"}, {"id": "3", "name": "twin"}, {"id": "gw", "name": "x"}]


@pytest.mark.parametrize(("wanted", "id"), [("1", "1"), ("2", "2"), ("x", "gw"), ("gw", "gw")])
def test_an_id_comes_before_a_name(wanted: str, id: str) -> None:
    assert find(PEERS, wanted, "peer")["id"] == id


def test_an_object_is_found_by_each_of_its_names() -> None:
    peers = [
        {"id": "1", "name": "gw", "ip": "100.64.0.1"},
        {"id": "2", "name": "other", "ip": "100.64.0.2", "ipv6": ""},
    ]
    assert [find(peers, wanted, "peer", ("name", "ip", "ipv6"))["id"] for wanted in ("gw", "100.64.0.2")] == ["1", "2"]
    with pytest.raises(NotFound):
        find(peers, "", "peer", ("name", "ip", "ipv6"))


def test_an_ambiguous_name_is_answered_with_the_ids() -> None:
    with pytest.raises(Ambiguous, match="2 peers are called 'twin': use one of the ids 2, 3"):
        find(PEERS, "twin", "peer")


@pytest.mark.parametrize("wanted", ["", "missing", "GW"])
def test_a_name_that_nobody_has_is_not_found(wanted: str) -> None:
    with pytest.raises(NotFound, match="there is no setup key"):
        find(PEERS, wanted, "setup key")
