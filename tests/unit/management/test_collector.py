"""What grows with an account is nothing that the garbage collector walks: it would hold the event loop for that."""

import gc
from typing import Any, get_args

import pytest

from services.management.core.entities import Entity
from services.management.core.feed.beacons import Beacons
from services.management.core.feed.compose import unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.core.feed.unit import NOTHING
from shared.events.facts import ReportFact, RouteState, SessionFact
from tests import builders
from tests.builders import ACCOUNT, NOW, group, peer, policy, route, rule, setup_key, user

FEW, MANY = 50, 550


def test_an_owner_of_ten_times_the_peers_gives_the_collector_no_more_to_walk() -> None:
    assert walked(MANY) - walked(FEW) < (MANY - FEW) / 10


@pytest.mark.parametrize("kind", get_args(Entity), ids=lambda kind: kind.__name__)
def test_no_entity_of_the_log_is_walked(kind: Any) -> None:
    assert not kind.__struct_config__.gc


def test_what_hosts_report_is_not_walked() -> None:
    states = tuple(RouteState(route_id=f"r{number}", state="serving") for number in range(3))
    report = ReportFact(
        peer_id="p", version="", hostname="", os="", kernel="", backend="", desired_revision=1, applied_revision=1,
        pending=0, routes=states,
    )  # fmt: skip
    assert not gc.is_tracked(report)
    assert not any(map(gc.is_tracked, states))
    assert not gc.is_tracked(SessionFact(peer_id="p", epoch=1, connected=True, since=NOW))


def walked(peers: int) -> int:
    """How many objects a full collection walks because a replica with so many peers owns the feed."""
    settle()
    before = len(gc.get_objects())
    kept = owner(peers)
    settle()
    walked = len(gc.get_objects()) - before
    assert kept
    return walked


def settle() -> None:
    for _ in range(3):  # a tuple is let go by the collection after that of what it holds
        gc.collect()


def owner(peers: int) -> tuple[object, ...]:
    """What it keeps: the fold, the index, what stands in FEED, and its beacons."""
    names = [f"p{number}" for number in range(peers)]
    intent = builders.intent(
        group("office"),
        group("viewer"),
        policy("sees", rule("sees", sources=("viewer",), destinations=("office",))),
        *(peer(name, "office", extra_dns_labels=(f"also-{name}",)) for name in names),
        *(route(f"lan-{name}", peer=name, groups=("viewer",)) for name in names),
        *(setup_key(f"key-{name}") for name in names),
        *(user(f"user-{name}", "office") for name in names),
    )
    state, published, beacons = intent.accounts[ACCOUNT], Published(), Beacons()
    beacons.begin()
    index = FeedIndex(state)
    for unit in units(state):
        writes, _ = published.add(ACCOUNT, unit, unit_documents(state, NOTHING, index, unit))
        for sequence, (key, _document) in enumerate(writes, 1):
            beacons.stored((ACCOUNT, key.audience), sequence, NOW)
    return intent, index, published, beacons
