"""Metrics of this process, and a page with them and its health for services without an API of their own."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    make_wsgi_app,
)

from shared.net.listen import Listen, require_free
from shared.version import VERSION

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["REGISTRY", "Counter", "Gauge", "Histogram", "exposition", "introduce", "page"]

Troubles: TypeAlias = Callable[[], Sequence[str]]

LOOPBACK = "127.0.0.1"

REGISTRY = CollectorRegistry()
"""Every metric of the process: `Counter("whimbrel_…", "what it counts", ["label"], registry=REGISTRY)`."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody asks for
ProcessCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)
_PROCESS = Gauge(
    "whimbrel_process_info",
    "Which of the replicas this is, always 1",
    ["service", "host", "version"],
    registry=REGISTRY,
)


def introduce(service: str) -> None:
    """Name this process on its page: whimbrel_process_info with its service, host and version.

    A replica in a container has an address that changes with each start; its host name is the container's id.
    """
    _PROCESS.labels(service, socket.gethostname(), VERSION).set(1)


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)


@contextlib.contextmanager
def page(port: int | None, host: str = LOOPBACK, troubles: Troubles | None = None) -> Iterator[None]:
    """Serve /metrics while the block runs; no port serves nothing. Raises Taken or BadSetting.

    troubles: why the process does not do its work, none while it does; asked from another thread. With it /healthz
    answers 503 with them, or 200.
    """
    if port is None:
        yield
        return
    listen = require_free(Listen(host, port), "--metrics-port")
    server = make_server(listen.host, listen.port, _application(troubles), _server(listen), _Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(troubles: Troubles | None) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app(REGISTRY)

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if troubles is None or environ["PATH_INFO"] != "/healthz":
            return metrics(environ, start_response)
        found = list(troubles())
        start_response("503 Service Unavailable" if found else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"status": "unavailable" if found else "ok", "troubles": found}).encode()]

    return answer


def _server(listen: Listen) -> type[WSGIServer]:
    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET

    return Server


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each scrape would drown the service's own."""
