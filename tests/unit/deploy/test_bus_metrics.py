"""What Prometheus is told of the bus, from what nats-server tells."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from deploy.nats.metrics import COUNTERS, GAUGES, Servers, families, told
from shared.net.listen import Listen

VARZ = {"server_name": "bus-2", **dict.fromkeys((*GAUGES, *COUNTERS), 0), "connections": 4, "in_msgs": 1042}
STATE = {"messages": 7, "bytes": 900, "first_seq": 1, "last_seq": 11}
ALONE = {"account_details": [{"name": "WHIMBREL", "stream_detail": [{"name": "LOG", "state": STATE}]}]}
FOLLOWS = {"name": "LOG", "state": STATE, "cluster": {"leader": "bus", "replicas": []}}


def text(**heard: Mapping[str, Any] | None) -> list[str]:
    class One(Servers):
        def collect(self) -> Iterator[Metric]:
            return families({address: told(VARZ, jsz) if jsz is not None else None for address, jsz in heard.items()})

    registry = CollectorRegistry()
    registry.register(One(Listen("buses", 8222)))
    return generate_latest(registry).decode().splitlines()


def test_a_server_is_told_under_its_own_name() -> None:
    shown = text(one=ALONE)
    assert 'whimbrel_bus_up{address="one"} 1.0' in shown
    assert 'whimbrel_bus_connections{server="bus-2"} 4.0' in shown
    assert 'whimbrel_bus_in_msgs_total{server="bus-2"} 1042.0' in shown
    assert 'whimbrel_bus_stream_last_seq{server="bus-2",stream="LOG"} 11.0' in shown
    assert 'whimbrel_bus_stream_leader{server="bus-2",stream="LOG"} 1.0' in shown


def test_a_follower_leads_nothing() -> None:
    shown = text(one={"account_details": [{"name": "WHIMBREL", "stream_detail": [FOLLOWS]}]})
    assert 'whimbrel_bus_stream_leader{server="bus-2",stream="LOG"} 0.0' in shown


def test_a_server_that_does_not_answer_takes_nothing_from_the_others() -> None:
    shown = text(one=None, two=ALONE)
    assert 'whimbrel_bus_up{address="one"} 0.0' in shown
    assert 'whimbrel_bus_connections{server="bus-2"} 4.0' in shown


def test_a_server_without_streams_yet_is_told() -> None:
    assert 'whimbrel_bus_up{address="one"} 1.0' in text(one={})


def test_a_name_that_leads_nowhere_is_an_empty_page() -> None:
    registry = CollectorRegistry()
    registry.register(Servers(Listen("no-such-bus.invalid", 8222)))
    assert "{" not in generate_latest(registry).decode()
