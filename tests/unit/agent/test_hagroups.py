"""Which routes stand for each other, and which routing peer carries them."""

import pytest

from services.agent.core import parsed
from services.agent.core.routing.hagroups import Candidate, HaGroup, candidates, choose, ha_groups, offered
from shared.events.documents import RouteDoc
from tests.unit.agent import make


def groups(*routes: RouteDoc) -> tuple[HaGroup, ...]:
    return ha_groups(map(parsed.route, routes))


def names(*routes: RouteDoc) -> list[list[str]]:
    return [[route.route_id for route in group.routes] for group in groups(*routes)]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (make.route("r1", network_id="n"), make.route("r2", network_id="n"), True),
        (make.route("r1", "10.1.2.3/16", network_id="n"), make.route("r2", "10.1.0.0/16", network_id="n"), True),
        (make.route("r1", network_id="n"), make.route("r2", network_id="m"), False),
        (make.route("r1", network_id="n"), make.route("r2", "10.2.0.0/16", network_id="n"), False),
        (
            make.route("r1", network_id="n", domains=("a", "B")),
            make.route("r2", network_id="n", domains=("b", "a")),
            True,
        ),
        (make.route("r1", network_id="n", domains=("a",)), make.route("r2", network_id="n", domains=("b",)), False),
    ],
)
def test_equal_network_id_and_equal_prefix_or_domains_make_one_group_r5(
    one: RouteDoc, other: RouteDoc, together: bool
) -> None:
    assert names(other, one) == ([["r1", "r2"]] if together else [["r1"], ["r2"]]) or not together
    assert len(groups(one, other)) == (1 if together else 2)


UP, DOWN = True, False


@pytest.mark.parametrize(
    ("found", "incumbent", "best"),
    [
        ([], None, None),
        ([("a", 100, DOWN)], None, "a"),
        ([("a", 100, DOWN), ("b", 9999, UP)], None, "b"),
        ([("a", 200, UP), ("b", 100, UP)], None, "b"),
        ([("b", 100, UP), ("a", 100, UP)], None, "a"),
        ([("a", 100, UP), ("b", 100, UP)], "b", "b"),
        ([("a", 99, UP), ("b", 100, UP)], "b", "a"),
        ([("a", 100, UP), ("b", 100, DOWN)], "b", "a"),
        ([("a", 100, DOWN), ("b", 100, DOWN)], "b", "b"),
        ([("a", 100, UP), ("b", 100, UP)], "gone", "a"),
    ],
)
def test_connected_before_metric_before_the_incumbent_before_the_lowest_id_g1(
    found: list[tuple[str, int, bool]], incumbent: str | None, best: str | None
) -> None:
    one = choose((Candidate(peer_id=name, metric=metric, connected=up) for name, metric, up in found), incumbent)
    assert (one.peer_id if one else None) == best


def test_one_route_with_several_routing_peers_and_several_routes_with_one_are_the_same_r5() -> None:
    several = groups(make.route("r1", by=("a", "b"), network_id="n", metric=5))[0]
    single = [make.route("r1", by="a", network_id="n", metric=5), make.route("r2", by="b", network_id="n", metric=5)]
    assert candidates(several, "ab", "a") == candidates(groups(*single)[0], "ab", "a")


def test_a_routing_peer_named_twice_counts_with_its_better_metric() -> None:
    group = groups(make.route("r1", network_id="n", metric=9), make.route("r2", network_id="n", metric=3))[0]
    assert candidates(group, ["gw"], []) == (Candidate(peer_id="gw", metric=3, connected=False),)


GATEWAY = {"gw": parsed.peer(make.peer("gw"))}


@pytest.mark.parametrize(
    ("routes", "found"),
    [
        ([make.route("r1", "10.1.0.0/16"), make.route("r2", "10.2.0.0/16")], {"r1", "r2"}),
        ([make.served("r1"), make.served("r2", "10.2.0.0/16")], set()),
        ([make.served("r1"), make.route("r2", "10.2.0.0/16")], {"r2"}),
        ([make.route("r1", by=("me", "gw"), permits=())], set()),
        (
            [make.served("r1", network_id="n"), make.route("r2", network_id="n"), make.route("r3", "10.3.0.0/16")],
            {"r3"},
        ),
        ([make.served("r1", "10.1.0.0/16"), make.route("r2", "10.1.0.0/16")], set()),
        ([make.served("r1", domains=("a.b",)), make.route("r2", domains=("a.b",), network_id="x")], set()),
        ([make.route("r1", by="unseen")], set()),
        ([make.route("r1", by=("unseen", "gw"))], {"r1"}),
        ([make.route("r1", distribution=("elsewhere",))], set()),
        ([make.route("r1", distribution=("office",))], {"r1"}),
    ],
)
def test_a_host_uses_what_is_distributed_to_it_and_not_what_it_serves_c4(
    routes: list[RouteDoc], found: set[str]
) -> None:
    usable = offered(map(parsed.route, routes), make.me("me", "office"), GATEWAY)
    assert {route.route_id for group in usable for route in group.routes} == found
