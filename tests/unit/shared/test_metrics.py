"""The page with the metrics."""

import socket

import httpx
import pytest

from shared.errors import Taken
from shared.metrics import REGISTRY, Counter, exposition, introduce, page
from tests.support.ports import free_port

_seen = Counter("whimbrel_test_seen", "Seen by this test", registry=REGISTRY)


def test_the_page_shows_the_metrics_while_it_is_served() -> None:
    port = free_port()
    _seen.inc(3)
    with page(port):
        assert "\nwhimbrel_test_seen_total 3.0\n" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(Taken, match=f"^127.0.0.1:{port} is in use: choose another with --metrics-port$"),
            page(port),
        ):
            pass


def test_the_page_says_whether_the_process_does_its_work_and_why_not() -> None:
    port, troubles = free_port(), ["the bus does not answer"]
    with page(port, troubles=lambda: troubles):
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "troubles": troubles})
        troubles.clear()
        answer = httpx.get(f"http://127.0.0.1:{port}/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "troubles": []})
        assert "whimbrel_test_seen" in httpx.get(f"http://127.0.0.1:{port}/metrics").text


def test_a_page_names_its_process() -> None:
    introduce("signal")
    assert f'whimbrel_process_info{{host="{socket.gethostname()}",service="signal",version="' in exposition().decode()


def test_without_a_port_nothing_is_served() -> None:
    with page(None):
        pass
