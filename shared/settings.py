"""A program's settings: command line first, then WHIMBREL_<OPTION>, then the default."""

import argparse
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from shared.duration import parse_duration
from shared.errors import BadSetting

PREFIX = "WHIMBREL_"

Seconds = Annotated[float, msgspec.Meta(ge=0, title="seconds")]
"""A setting that is written as seconds, "90" or "2.5", or with a unit, "90s", "5m", "1h", "7d"."""

S = TypeVar("S", bound=msgspec.Struct)


def read(type_: type[S], given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> S:
    """Settings as the struct `type_`: a field `log_level` is the option --log-level and WHIMBREL_LOG_LEVEL.

    given: field → value that wins over the environment (text is converted); None means not given. environ: this
    process's by default; an empty variable counts as not set. Tuples are comma separated. Raises BadSetting.
    """
    environ = os.environ if environ is None else environ
    values = {
        field.name: _convert(field, value)
        for field in msgspec.structs.fields(type_)
        if (value := _chosen(field.name, given or {}, environ)) is not None
    }
    for field in msgspec.structs.fields(type_):
        if field.required and field.name not in values:
            raise BadSetting(option(field.name), "it is not set")
    return type_(**values)


def from_arguments(type_: type[S], program: str, argv: Sequence[str] | None = None) -> S:
    """The same with an argument parser over every field; the struct's docstring is the help text.

    Ends the process with code 2 and one line when an argument or a value is wrong.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=inspect.getdoc(type_),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for field in msgspec.structs.fields(type_):
        parser.add_argument(_flag(field.name), dest=field.name, metavar=field.name.rpartition("_")[2].upper())
    try:
        return read(type_, vars(parser.parse_args(argv)))
    except BadSetting as problem:
        parser.exit(2, f"{program}: {problem}\n")


def option(name: str) -> str:
    """How a person writes the setting `name`."""
    return f"{_flag(name)} ({_variable(name)})"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _chosen(name: str, given: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    value = given.get(name)
    return value if value is not None else environ.get(_variable(name)) or None


def _convert(field: msgspec.structs.FieldInfo, value: Any) -> Any:
    if get_origin(field.type) is Literal and value not in get_args(field.type):
        raise BadSetting(option(field.name), f"must be one of {', '.join(get_args(field.type))}")
    if isinstance(value, str) and get_origin(field.type) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if field.type == Seconds:
        return _seconds(field, value)
    try:
        return msgspec.convert(value, field.type, strict=False, dec_hook=_path)
    except msgspec.ValidationError as problem:
        raise BadSetting(option(field.name), str(problem)) from None


def _seconds(field: msgspec.structs.FieldInfo, value: Any) -> float:
    for read_as in (float, parse_duration):
        try:
            return msgspec.convert(float(read_as(value)), Seconds)
        except (ValueError, msgspec.ValidationError):
            continue
    raise BadSetting(option(field.name), "write seconds, or a number with s, m, h, d or w, as in 5m")


def _path(type_: type, value: Any) -> Any:
    if type_ is Path:
        return Path(value)
    raise NotImplementedError(type_)
