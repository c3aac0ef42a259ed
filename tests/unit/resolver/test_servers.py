"""How DNS servers are written, and which is asked first."""

import pytest

from services.resolver.core.servers import MISSES, PROBE_S, Standing, parse_server, written
from shared.events.documents import UpstreamServer

A, B = UpstreamServer("192.0.2.1", 53), UpstreamServer("192.0.2.2", 53)


@pytest.mark.parametrize(
    ("text", "server", "again"),
    [
        ("192.0.2.1", A, "192.0.2.1"),
        ("192.0.2.1:53", A, "192.0.2.1"),
        ("192.0.2.1:5353", UpstreamServer("192.0.2.1", 5353), "192.0.2.1:5353"),
        ("2001:DB8:0::1", UpstreamServer("2001:db8::1", 53), "2001:db8::1"),
        ("[2001:db8::1]", UpstreamServer("2001:db8::1", 53), "2001:db8::1"),
        ("[2001:db8::1]:5353", UpstreamServer("2001:db8::1", 5353), "[2001:db8::1]:5353"),
        ("tls://192.0.2.1", UpstreamServer("192.0.2.1", 853, True), "tls://192.0.2.1"),
        (
            "tls://[2001:db8::1]:8853#Dns.example",
            UpstreamServer("2001:db8::1", 8853, True, "dns.example"),
            "tls://[2001:db8::1]:8853#dns.example",
        ),
    ],
)
def test_how_a_server_may_be_written(text: str, server: UpstreamServer, again: str) -> None:
    assert (parse_server(text), written(server)) == (server, again)
    assert parse_server(again) == server


@pytest.mark.parametrize(
    "text",
    [
        *("dns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[::1]x", "[::1", ""),
        *("192.0.2.1#dns.example", "tls://dns.example", "tls://192.0.2.1#*.example", "https://192.0.2.1"),
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011: its words are nobody's affair
        parse_server(text)


def silent(standing: Standing, server: UpstreamServer, now: float, times: int = MISSES) -> None:
    for _ in range(times):
        standing.missed(server, now)


def test_d7_a_silent_server_is_asked_last() -> None:
    standing = Standing()
    assert standing.order((A, B), 0.0) == (A, B)
    silent(standing, A, 0.0)
    assert standing.order((A, B), 0.0) == (B, A)


def test_d7_a_few_names_that_a_server_never_answers_for_do_not_make_it_silent() -> None:
    standing = Standing()
    for _ in range(10):
        silent(standing, A, 0.0, MISSES - 1)
        standing.answered(A)
    assert standing.order((A, B), 0.0) == (A, B)


def test_a_silent_server_is_tried_with_one_question_each_ten_seconds_and_back_with_its_first_answer() -> None:
    standing = Standing()
    silent(standing, A, 0.0)
    for now in (PROBE_S, 2 * PROBE_S):
        assert standing.order((A, B), now) == (A, B)
        assert standing.order((A, B), now) == (B, A)
    standing.answered(A)
    assert standing.order((A, B), 2 * PROBE_S) == (A, B)
    assert standing.order((A, B), 2 * PROBE_S) == (A, B)


def test_when_all_are_silent_all_are_asked_in_their_order() -> None:
    standing = Standing()
    silent(standing, A, 0.0)
    silent(standing, B, 0.0)
    assert standing.order((A, B), 1.0) == (A, B)
