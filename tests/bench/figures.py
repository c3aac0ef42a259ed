"""Percentiles and the table that the benchmarks print."""

from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured distribution, or a single value when count is 1. unit: "ms", "MB", …; aim: what was hoped for."""

    name: str
    unit: str
    count: int
    p50: float
    p95: float
    p99: float
    most: float
    aim: str = ""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value at or below which `share` of the ordered values lie (nearest rank)."""
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def figure(name: str, unit: str, values: Sequence[float], aim: str = "") -> Figure:
    ordered = sorted(values)
    return Figure(
        name=name,
        unit=unit,
        count=len(ordered),
        p50=percentile(ordered, 0.50),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        most=ordered[-1],
        aim=aim,
    )
