"""Structured logs: JSON lines for machines, readable lines on a terminal, never a secret."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, TypeAlias

import structlog
from structlog.typing import EventDict, Processor

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["auto", "json", "text"]

REDACTED = "[redacted]"

_SECRET = re.compile(
    r"(?:^|_)(?:setup_?key|private_?key|preshared_?key|psk|seed|token|password|passwd|secret|authorization|cookie)$",
    re.IGNORECASE,
)
"""Names of fields that hold a secret. `wireguard_key` and `bus_key` are public keys, `key_hash` is no key."""


def set_up(level: Level = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Send what structlog.get_logger() and the libraries log to `stream` (standard error by default).

    auto: text on a terminal, else JSON. Libraries are heard from warnings on, so that `debug` stays readable.
    """
    stream = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        hide_secrets,
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(as_text, stream)],
        )
    )
    root, ours = logging.getLogger(), logging.getLogger("whimbrel")
    root.handlers = [handler]
    ours.setLevel(level.upper())
    root.setLevel(max(ours.level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(ours.level),
        logger_factory=lambda *_: ours,
    )


def _rendering(as_text: bool, stream: TextIO) -> list[Processor]:
    if as_text:
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The event with the values of secret fields replaced, in mappings inside it as well."""
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if _SECRET.search(name):
        return REDACTED
    if isinstance(value, Mapping):
        return {key: _shown(str(key), inner) for key, inner in value.items()}
    return value
