"""Metrics of this process, and a page that shows them for services without an API of their own."""

import contextlib
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import start_http_server as _start_http_server

from shared.net.listen import Listen, require_free

__all__ = ["REGISTRY", "Counter", "Gauge", "Histogram", "exposition", "page"]

REGISTRY = CollectorRegistry()
"""Every metric of the process: `Counter("whimbrel_…", "what it counts", ["label"], registry=REGISTRY)`."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody asks for
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)


@contextlib.contextmanager
def page(port: int | None) -> Iterator[None]:
    """Serve the metrics on loopback while the block runs; None serves nothing. Raises Taken or BadSetting."""
    if port is None:
        yield
        return
    listen = require_free(Listen("127.0.0.1", port), "--metrics-port")
    server, thread = _start_http_server(listen.port, addr=listen.host, registry=REGISTRY)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
