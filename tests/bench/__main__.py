"""`just bench [NAME…]`: measure, each figure beside a reference from the same run. Nothing here is a test."""

import argparse
import sys
from collections.abc import Callable

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import (
    agent_desired,
    answers,
    choice,
    fanout,
    feed_latency,
    feed_rewrite,
    firewall,
    forwarder,
    lab_latency,
    replicas,
    resolver,
)
from tests.bench.figures import Figure
from tests.bench.ha import bench as ha

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "lab": lab_latency.measure,
    "fanout": fanout.measure,
    "firewall": firewall.measure,
    "forwarder": forwarder.measure,
    "feed": feed_latency.measure,
    "rewrite": feed_rewrite.measure,
    "desired": agent_desired.measure,
    "choice": choice.measure,
    "answers": answers.measure,
    "replicas": replicas.measure,
    "resolver": resolver.measure,
}
HA = "ha"
"""Takes hours, and only when it is named."""
NAMES = (*BENCHMARKS, HA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; all but {HA} without one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    ha.options(parser)
    wanted = parser.parse_args()
    unknown = sorted(set(wanted.names) - set(NAMES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    console = Console(stderr=True)
    figures: list[Figure] = []
    for name in wanted.names or BENCHMARKS:
        with console.status(f"measuring {name}"):
            figures += ha.measure(ha.wanted(wanted)) if name == HA else BENCHMARKS[name]()
    if wanted.json:
        sys.stdout.buffer.write(msgspec.json.encode(figures) + b"\n")
    else:
        show(figures)


def show(figures: list[Figure]) -> None:
    table = Table("what", "n", "p50", "p95", "p99", "most", "unit", "aim")
    for one in figures:
        cells = [f"{value:.2f}" for value in (one.p50, one.p95, one.p99, one.most)]
        table.add_row(one.name, str(one.count), *cells, one.unit, one.aim)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
