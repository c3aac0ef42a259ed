"""Ports of a policy rule as people write them."""

from collections.abc import Iterable


def split_ports(texts: Iterable[str]) -> tuple[list[str], list[dict[str, int]]]:
    """Ports and ranges as the API takes them: ["80", "8000-8010"] gives ranges for both, ["80", "443"] single ports.

    A rule has either single ports or ranges, so one range makes ranges of all. Raises ValueError.
    """
    listed = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not any("-" in part for part in listed):
        return listed, []
    return [], [_range(part) for part in listed]


def _range(text: str) -> dict[str, int]:
    start, dash, end = text.partition("-")
    if not start.isdecimal() or (dash and not end.isdecimal()):
        raise ValueError(f"{text!r} is no port: write a port as in 443, or a range as in 8000-8010")
    return {"start": int(start), "end": int(end or start)}
