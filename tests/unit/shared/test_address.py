"""Addresses of the bus as people write them."""

from pathlib import Path

import pytest

from shared.bus.address import BusAddress, parse_bus
from shared.errors import BadSetting
from tests.support.tls import Authority


@pytest.mark.parametrize(
    ("text", "urls", "tls"),
    [
        ("nats://192.0.2.1:4222", ("nats://192.0.2.1:4222",), False),
        ("192.0.2.1:4222", ("nats://192.0.2.1:4222",), False),
        ("bus.example.com", ("nats://bus.example.com",), False),
        ("tls://bus.example.com:4222", ("tls://bus.example.com:4222",), True),
        ("tls://[2001:db8::1]:4222, tls://b:4223", ("tls://[2001:db8::1]:4222", "tls://b:4223"), True),
    ],
)
def test_an_address_is_one_url_or_several_of_one_kind(text: str, urls: tuple[str, ...], tls: bool) -> None:
    assert parse_bus(text) == BusAddress(urls=urls)
    assert parse_bus(text).tls is tls


@pytest.mark.parametrize("text", ["", "tls://", "http://bus", "ws://bus", "tls://bus:many", "tls://bus:0", "nats://a,"])
def test_what_is_no_address_is_told_how_one_looks(text: str) -> None:
    with pytest.raises(BadSetting, match=r"^--bus \(WHIMBREL_BUS\): write tls://HOST:PORT"):
        parse_bus(text)


@pytest.mark.parametrize("text", ["tls://a,nats://b", "nats://a,tls://b", "tls://a,b"])
def test_no_attempt_may_fall_back_to_plain_text(text: str) -> None:
    with pytest.raises(BadSetting, match=r"^--bus \(WHIMBREL_BUS\): write tls:// in front of every address"):
        parse_bus(text)


def test_nobody_believes_in_tls_who_has_none(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"^--bus-ca \(WHIMBREL_BUS_CA\): it is of use with TLS only"):
        parse_bus("nats://bus:4222", Authority(tmp_path).ca)
    with pytest.raises(BadSetting, match=r"^--bus-name \(WHIMBREL_BUS_NAME\): it is of use with TLS only"):
        parse_bus("nats://bus:4222", name="bus.example.com")


def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no certificate")
    with pytest.raises(BadSetting, match=r"^--bus-ca .*text holds no certificate in PEM form"):
        parse_bus("tls://bus", text)
    with pytest.raises(BadSetting, match=r"^--bus-ca .*nowhere: No such file"):
        parse_bus("tls://bus", tmp_path / "nowhere")


def test_a_server_that_another_one_told_of_is_believed_under_the_name_people_wrote() -> None:
    written = parse_bus("tls://one.example.com,tls://two.example.com")
    assert written.name_of("two.example.com") == "two.example.com"
    assert written.name_of("192.0.2.7") == "one.example.com"
    assert parse_bus("tls://127.0.0.1", name="bus.example.com").name_of("127.0.0.1") == "bus.example.com"
