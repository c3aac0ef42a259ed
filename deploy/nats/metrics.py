"""`python -m deploy.nats.metrics --servers NAME:PORT`: a page with the bus's figures for Prometheus.

nats-server tells them as JSON, on a monitoring port that is for the stack's own network. At each scrape every address
behind the name is asked, so that one page has all servers of a cluster, each under its own name.
"""

import argparse
import json
import signal
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.request import urlopen

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared import metrics
from shared.net.listen import Listen, parse_listen

WITHIN_S = 2.0
NAME = "whimbrel_bus"

GAUGES = {"connections": "Open connections of clients", "subscriptions": "Subscriptions", "mem": "Resident bytes"}
COUNTERS = {
    "in_msgs": "Messages received",
    "out_msgs": "Messages sent",
    "in_bytes": "Bytes received",
    "out_bytes": "Bytes sent",
    "slow_consumers": "Connections ended because they did not read fast enough",
    "total_connections": "Connections of clients since the start",
}
STREAM = {"messages": "Messages in the stream", "bytes": "Bytes of the stream", "last_seq": "Its last sequence"}
"""What /varz has of a server, and /jsz of a stream: field → what it is. Each field is a metric of the same name."""


class Told(NamedTuple):
    """One server's word. streams: stream → its state, led: streams whose leader this server is."""

    server: str
    varz: Mapping[str, Any]
    streams: Mapping[str, Mapping[str, Any]]
    led: frozenset[str]


def families(heard: Mapping[str, Told | None]) -> Iterator[Metric]:
    """Address → what was heard of it, None when there was no answer; gives the metrics of all of them."""
    up = GaugeMetricFamily(f"{NAME}_up", "Whether the server at this address answers", labels=["address"])
    for address, told in heard.items():
        up.add_metric([address], told is not None)
    yield up
    servers = [told for told in heard.values() if told is not None]
    for field, what in GAUGES.items():
        gauge = GaugeMetricFamily(f"{NAME}_{field}", what, labels=["server"])
        for told in servers:
            gauge.add_metric([told.server], told.varz[field])
        yield gauge
    for field, what in COUNTERS.items():
        counter = CounterMetricFamily(f"{NAME}_{field}", what, labels=["server"])
        for told in servers:
            counter.add_metric([told.server], told.varz[field])
        yield counter
    for field, what in STREAM.items():
        gauge = GaugeMetricFamily(f"{NAME}_stream_{field}", what, labels=["server", "stream"])
        for told in servers:
            for stream, state in told.streams.items():
                gauge.add_metric([told.server, stream], state[field])
        yield gauge
    leader = GaugeMetricFamily(f"{NAME}_stream_leader", "Whether the server leads it", labels=["server", "stream"])
    for told in servers:
        for stream in told.streams:
            leader.add_metric([told.server, stream], stream in told.led)
    yield leader


def told(varz: Mapping[str, Any], jsz: Mapping[str, Any]) -> Told:
    """The two pages of one server, of which a server that is alone leads every stream."""
    streams = {
        detail["name"]: detail
        for account in jsz.get("account_details") or ()
        for detail in account.get("stream_detail") or ()
    }
    server = varz["server_name"]
    led = {name for name, detail in streams.items() if (detail.get("cluster") or {}).get("leader", server) == server}
    return Told(server, varz, {name: detail["state"] for name, detail in streams.items()}, frozenset(led))


class Servers(Collector):
    """The metrics of every server whose monitoring port is behind `name`, asked anew each time."""

    def __init__(self, name: Listen) -> None:
        self._name = name

    def collect(self) -> Iterator[Metric]:
        return families({str(address): _ask(address) for address in self._addresses()})

    def describe(self) -> Iterator[Metric]:
        """What collect() will have, without asking anybody."""
        return families({})

    def _addresses(self) -> list[Listen]:
        try:
            found = socket.getaddrinfo(self._name.host, self._name.port, type=socket.SOCK_STREAM)
        except OSError:  # none of them runs
            return []
        return sorted({Listen(str(address[0]), self._name.port) for *_, address in found})


def _ask(address: Listen) -> Told | None:
    try:
        varz, jsz = (_page(address, page) for page in ("varz", "jsz?accounts=true&streams=true"))
    except (OSError, ValueError):
        return None
    return told(varz, jsz)


def _page(address: Listen, page: str) -> Any:
    with urlopen(f"http://{address}/{page}", timeout=WITHIN_S) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.nats.metrics", description=__doc__, allow_abbrev=False)
    parser.add_argument("--servers", required=True, help="name and monitoring port of the servers: buses:8222")
    parser.add_argument("--host", default="0.0.0.0", help="address of the page")
    parser.add_argument("--port", type=int, default=9464, help="port of the page")
    given = parser.parse_args()
    metrics.introduce("bus-metrics")
    metrics.REGISTRY.register(Servers(parse_listen(given.servers, "--servers")))
    stops = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops)
    with metrics.page(given.port, given.host):
        signal.sigwait(stops)


if __name__ == "__main__":
    main()
