"""Durations as people write them."""

import re

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,12})\s*([smhdw]?)\Z")


def parse_duration(text: str) -> int:
    """Seconds: "90" and "90s" are 90, "30d" is 2,592,000; raises ValueError with a line that says how to write it."""
    match = _DURATION.match(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h, d or w, as in 30d")
    return int(match[1]) * _UNITS_S[match[2] or "s"]
