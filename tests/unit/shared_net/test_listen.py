"""Addresses to listen on."""

import socket

import pytest

from shared.errors import BadSetting, Taken
from shared.net.listen import Listen, parse_listen, require_free


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:8080", "::1", 8080),
        ("[::]:65535", "::", 65_535),
        ("localhost:80", "localhost", 80),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, host: str, port: int) -> None:
    listen = parse_listen(text, "--api")
    assert listen == Listen(host, port)
    assert str(listen) == text


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:80", "h:-1", "h:²"]
)
def test_anything_else_names_the_option(text: str) -> None:
    with pytest.raises(BadSetting) as problem:
        parse_listen(text, "--api")
    assert problem.value.option == "--api"


@pytest.mark.parametrize("text", ["nats://0.0.0.0:4222", "http://[::1]:8080"])
def test_a_scheme_is_to_be_left_out(text: str) -> None:
    with pytest.raises(BadSetting, match="leave the scheme out, write address:port"):
        parse_listen(text, "--bus")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_named_and_a_free_one_is_chosen(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        used = Listen(host, other.getsockname()[1])
        with pytest.raises(Taken) as refusal:
            require_free(used, "--api")
        assert str(refusal.value) == f"{used} is in use: choose another with --api"
    assert require_free(Listen(host, 0), "--api").port > 0


def test_a_host_that_is_no_address_names_the_option() -> None:
    with pytest.raises(BadSetting):
        require_free(Listen("no address", 80), "--bus")


@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::9"])
def test_an_address_of_another_host_is_not_said_to_be_in_use(host: str) -> None:
    listen = Listen(host, 4222)
    with pytest.raises(BadSetting) as refusal:
        require_free(listen, "--bus")
    assert str(refusal.value) == (
        f"--bus: cannot listen on {listen}: Cannot assign requested address: choose another with --bus"
    )
