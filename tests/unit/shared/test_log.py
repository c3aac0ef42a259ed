"""What logs look like and what never stands in them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import log
from shared.log import REDACTED, hide_secrets


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_is_json_where_nobody_reads_along() -> None:
    stream = io.StringIO()
    log.set_up(stream=stream)
    structlog.get_logger().info("session", peer="alice", epoch=3)
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {"event": "session", "level": "info", "peer": "alice", "epoch": 3}


@pytest.mark.parametrize(
    ("stream", "format", "is_json"),
    [
        (Terminal(), "auto", False),
        (Terminal(), "json", True),
        (io.StringIO(), "auto", True),
        (io.StringIO(), "text", False),
    ],
)
def test_the_form_follows_the_setting_and_then_the_terminal(
    stream: io.StringIO, format: log.Format, is_json: bool
) -> None:
    log.set_up(format=format, stream=stream)
    structlog.get_logger().info("session")
    assert stream.getvalue().startswith("{") is is_json
    assert "session" in stream.getvalue()


def test_the_level_holds_for_us_and_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    log.set_up("debug", stream=stream)
    structlog.get_logger().debug("ours")
    logging.getLogger("nats").info("theirs")
    logging.getLogger("nats").warning("their warning")
    log.set_up("error", stream=stream)
    structlog.get_logger().warning("not any more")
    logging.getLogger("nats").warning("not any more")
    assert [line["event"] for line in lines(stream)] == ["ours", "their warning"]


def test_an_error_keeps_its_traceback_on_the_same_line() -> None:
    stream = io.StringIO()
    log.set_up(stream=stream)
    try:
        raise ValueError("of a test")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(stream)
    assert "ValueError: of a test" in str(line["exception"])


@pytest.mark.parametrize(
    "name",
    ["setup_key", "setupkey", "private_key", "wireguard_private_key", "seed", "token", "admin_token", "password"],
)
def test_a_secret_never_gets_into_a_log(name: str) -> None:
    stream = io.StringIO()
    log.set_up(stream=stream)
    structlog.get_logger().warning("refused", **{name: "S3CRET"}, request={"inside": {name: "S3CRET"}})
    assert "S3CRET" not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) == 2


@pytest.mark.parametrize("name", ["wireguard_key", "bus_key", "key_hash", "peer", "tokens", "account"])
def test_what_is_public_stays_readable(name: str) -> None:
    assert hide_secrets(None, "info", {name: "value"}) == {name: "value"}
