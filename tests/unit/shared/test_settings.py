"""Settings from the command line and the environment."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from shared.errors import BadSetting
from shared.settings import Seconds, from_arguments, read


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Help for people."""

    bus: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    interval_s: float = 60.0
    pause: Seconds = 5.0
    upstreams: tuple[str, ...] = ()
    credentials: Path = Path("default.nk")
    log_format: Literal["auto", "json"] = "auto"
    verbose: bool = False


def test_the_command_line_wins_over_the_environment_and_that_over_the_default() -> None:
    settings = read(Settings, {"bus": "here", "port": None}, {"WHIMBREL_BUS": "there", "WHIMBREL_PORT": "53"})
    assert (settings.bus, settings.port, settings.interval_s) == ("here", 53, 60.0)


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("WHIMBREL_PORT", "22054", "port", 22054),
        ("WHIMBREL_INTERVAL_S", "2.5", "interval_s", 2.5),
        ("WHIMBREL_UPSTREAMS", "192.0.2.1, 2001:db8::1,", "upstreams", ("192.0.2.1", "2001:db8::1")),
        ("WHIMBREL_CREDENTIALS", "keys/signal.nk", "credentials", Path("keys/signal.nk")),
        ("WHIMBREL_LOG_FORMAT", "json", "log_format", "json"),
        ("WHIMBREL_VERBOSE", "true", "verbose", True),
        ("WHIMBREL_PORT", "", "port", None),
        ("WHIMBREL_PAUSE", "90", "pause", 90.0),
        ("WHIMBREL_PAUSE", "2.5", "pause", 2.5),
        ("WHIMBREL_PAUSE", "90s", "pause", 90.0),
        ("WHIMBREL_PAUSE", "1m", "pause", 60.0),
        ("WHIMBREL_PAUSE", "2h", "pause", 7200.0),
        ("WHIMBREL_PAUSE", "0", "pause", 0.0),
    ],
)
def test_text_becomes_the_type_of_the_option(variable: str, text: str, field: str, value: object) -> None:
    settings = read(Settings, {}, {"WHIMBREL_BUS": "x", variable: text})
    assert getattr(settings, field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("WHIMBREL_PORT", "many"),
        ("WHIMBREL_PORT", "0"),
        ("WHIMBREL_PORT", "65536"),
        ("WHIMBREL_INTERVAL_S", "soon"),
        ("WHIMBREL_LOG_FORMAT", "xml"),
        ("WHIMBREL_VERBOSE", "perhaps"),
        ("WHIMBREL_PAUSE", "soon"),
        ("WHIMBREL_PAUSE", "-7m"),
        ("WHIMBREL_PAUSE", "nan"),
        ("WHIMBREL_PAUSE", "1y"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_option_and_not_the_value(variable: str, text: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        read(Settings, {}, {"WHIMBREL_BUS": "x", variable: text})
    line = str(refusal.value)
    assert variable in line
    assert "\n" not in line
    assert refusal.value.problem
    assert text not in line.replace(variable, "") or text == "0"


def test_a_choice_names_what_there_is_to_choose_from() -> None:
    with pytest.raises(BadSetting, match=r"--log-format \(WHIMBREL_LOG_FORMAT\): must be one of auto, json"):
        read(Settings, {}, {"WHIMBREL_BUS": "x", "WHIMBREL_LOG_FORMAT": "xml"})


def test_a_duration_says_how_it_is_written() -> None:
    with pytest.raises(
        BadSetting, match=r"^--pause \(WHIMBREL_PAUSE\): write seconds, or a number with s, m, h, d or w"
    ):
        read(Settings, {}, {"WHIMBREL_BUS": "x", "WHIMBREL_PAUSE": "soon"})


def test_what_must_be_set_and_is_not_is_named() -> None:
    with pytest.raises(BadSetting, match=r"--bus \(WHIMBREL_BUS\): it is not set"):
        read(Settings, {}, {})


def test_arguments_are_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHIMBREL_INTERVAL_S", "5")
    settings = from_arguments(Settings, "demo", ["--bus", "nats://x", "--log-format", "json"])
    assert (settings.bus, settings.log_format, settings.interval_s) == ("nats://x", "json", 5.0)


def test_a_bad_argument_ends_the_program_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        from_arguments(Settings, "demo", ["--bus", "x", "--port", "many"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "demo: --port (WHIMBREL_PORT): Expected `int | null`, got `str`\n"
