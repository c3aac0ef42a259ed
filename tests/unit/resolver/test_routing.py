"""Which routing peers are asked, and when the DNS servers are asked in their place."""

from services.resolver.core.routing import APART_S, AWAY_AFTER, MOST, SILENT_FOR_S, Routing
from shared.events.subjects import ResolvedKey

A, B = ResolvedKey("acc", "a"), ResolvedKey("acc", "b")


def silent(routing: Routing, peer: ResolvedKey, now: float, times: int) -> float:
    """So many times, as far apart as they count; the moment of the last one."""
    for _ in range(times):
        now += APART_S
        routing.silent(peer, now)
    return now


def test_d6_routing_peers_are_asked_in_their_order_and_not_too_many_of_them() -> None:
    peers = [ResolvedKey("acc", str(number)) for number in range(9)]
    assert Routing().to_ask(peers, 0.0) == peers[:MOST]


def test_one_that_was_never_heard_of_is_done_without() -> None:
    routing = Routing()
    assert not routing.may_be_back([A])
    silent(routing, A, 0.0, 1)
    assert not routing.may_be_back([A])
    assert routing.to_ask([A, B], APART_S) == [B]


def test_one_that_answered_before_is_waited_for_until_it_is_away() -> None:
    routing = Routing()
    routing.answered(A)
    now = silent(routing, A, 0.0, AWAY_AFTER - 1)
    for _ in range(99):
        routing.silent(A, now)
    assert (routing.to_ask([A], now), routing.may_be_back([A])) == ([A], True)
    now = silent(routing, A, now, 1)
    assert (routing.to_ask([A], now), routing.may_be_back([A])) == ([], False)


def test_one_that_is_away_is_tried_again_and_counts_with_its_first_answer() -> None:
    routing = Routing()
    now = silent(routing, A, 0.0, 1)
    assert routing.to_ask([A], now + SILENT_FOR_S - 0.1) == []
    assert routing.to_ask([A], now + SILENT_FOR_S) == [A]
    routing.answered(A)
    assert (routing.to_ask([A], now), routing.may_be_back([A])) == ([A], True)


def test_peers_of_other_accounts_are_others() -> None:
    routing = Routing()
    silent(routing, A, 0.0, 1)
    assert routing.to_ask([ResolvedKey("other", "a")], 0.0) == [ResolvedKey("other", "a")]


def test_one_that_answered_another_replica_is_waited_for_too_unless_it_is_known_to_be_away() -> None:
    routing = Routing()
    routing.answered_before(A)
    now = silent(routing, A, 0.0, 1)
    assert routing.may_be_back([A])
    silent(routing, A, now, AWAY_AFTER)
    routing.answered_before(A)
    assert not routing.may_be_back([A])
