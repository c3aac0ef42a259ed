"""Laws of the incremental feed."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.management.core.entities import Entity, Ref
from services.management.core.feed.compose import documents, unit_documents, unit_of, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.relations import RelationsOf
from services.management.core.feed.unit import NOTHING, Documents, Observed, Unit
from services.management.core.model.commit import Commit
from shared.events.documents import SETTINGS_ID
from tests import builders
from tests.builders import ALL, commit, group, peer, policy, route, rule, setup_key
from tests.property.management_feed import histories
from tests.property.management_feed.histories import Fold


def merged(parts: dict[Unit, Documents]) -> Documents:
    return {key: document for part in parts.values() for key, document in part.items()}


@settings(max_examples=200)
@given(
    before=histories.populations(),
    after=st.lists(st.tuples(histories.commits(), st.none() | histories.observed), min_size=1, max_size=8),
)
def test_recomputing_what_a_commit_touched_gives_the_same_feed_as_computing_all(
    before: Commit, after: list[tuple[Commit, Observed | None]]
) -> None:
    """Where nothing new is observed, only the commit itself says what to compute anew."""
    fold = Fold(before)
    observed = NOTHING
    index = FeedIndex(fold.state)
    parts = {unit: unit_documents(fold.state, observed, index, unit) for unit in units(fold.state)}
    assert merged(parts) == documents(fold.state, observed)
    for one, news in after:
        found = news or observed
        touched = index.touched(fold.apply(one))
        touched |= {Unit("resolution", id) for id in _other(observed.resolutions, found.resolutions)}
        touched |= {Unit("presence", id) for id in _other(observed.last_words, found.last_words)}
        for name in histories.PEERS:
            touched |= index.heard(name, found.versions.get(name, ""), unseen=name in found.unseen)
        observed = found
        parts |= {unit: unit_documents(fold.state, observed, index, unit) for unit in touched}
        assert merged(parts) == documents(fold.state, observed)


def _other(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {id for id in before.keys() | after.keys() if before.get(id) != after.get(id)}


@given(st.lists(histories.commits(), min_size=1, max_size=8))
def test_an_index_that_followed_a_history_knows_what_a_new_one_knows(commits: list[Commit]) -> None:
    followed = Fold()
    index = FeedIndex(followed.state)
    for one in commits:
        index.touched(followed.apply(one))
    expected = RelationsOf(followed.state)
    for name in (*histories.GROUPS, ALL):
        assert index.is_named(name) == expected.is_named(name)
        assert sorted(r.id for r in index.rules_to(name)) == sorted(r.id for r in expected.rules_to(name))
        assert set(index.viewers(f"g.{name}")) == set(expected.viewers(f"g.{name}"))
    for name in histories.PEERS:
        assert set(index.viewers(f"p.{name}")) == set(expected.viewers(f"p.{name}"))
    assert index.forwarder_port() == expected.forwarder_port()


@given(st.lists(histories.commits(), max_size=6), histories.observed)
def test_every_document_belongs_to_the_unit_that_makes_it(commits: list[Commit], found: Observed) -> None:
    state = Fold(*commits).state
    relations = RelationsOf(state)
    for unit in units(state):
        for key, document in unit_documents(state, found, relations, unit).items():
            assert unit_of(key, document) == unit


def touched_by(number_of_peers: int, change: Commit) -> set[Unit]:
    """What a change touches in an account with a full mesh, an office of everybody, and one gateway."""
    office = [peer(f"p{number}", "office") for number in range(number_of_peers)]
    fold = Fold(
        commit(group("office"), group("lab"), group("empty"), peer("gateway", "lab"), *office),
        commit(policy("mesh"), policy("lab", rule("lab-rule", sources=("office",), destinations=("lab",)))),
        commit(route("lan", peer_groups=("lab",), groups=("office",), access_control_groups=("lab",))),
    )
    index = FeedIndex(fold.state)
    return index.touched(fold.apply(change))


known_route = route("new", peer_groups=("lab",), groups=("office",), access_control_groups=("office",))
gateway = Unit("presence", "gateway")


@pytest.mark.parametrize(
    "change, touched",
    [
        (commit(known_route), {Unit("route", "new"), Unit("resolution", "new"), gateway}),
        (commit(deletes=[Ref("route", "lan")]), {Unit("route", "lan"), Unit("resolution", "lan"), gateway}),
        (
            commit(route("lan", peer_groups=("lab",), groups=("empty",), access_control_groups=("lab",))),
            {Unit("route", "lan"), Unit("resolution", "lan"), gateway},
        ),
        (
            commit(route("lan", peer_groups=("lab",), groups=("office",), access_control_groups=("lab",), metric=7)),
            {Unit("route", "lan"), Unit("resolution", "lan")},
        ),
        (commit(setup_key("key")), set()),
        (commit(group("another")), set()),
        (commit(builders.account()), {Unit("settings", SETTINGS_ID), Unit("resolving", SETTINGS_ID)}),
        (commit(policy("more", rule("more-rule", sources=(ALL,)))), {Unit("policy", "more")}),
        (
            commit(policy("more", rule("more-rule", sources=("office",), destinations=("lab",)))),
            {Unit("policy", "more"), Unit("route", "lan"), Unit("resolution", "lan")},
        ),
        (commit(peer("guest")), {Unit("self", "guest"), Unit("peer", "guest"), Unit("presence", "guest")}),
        (
            commit(peer("gateway")),
            {
                Unit("self", "gateway"),
                Unit("peer", "gateway"),
                gateway,
                Unit("route", "lan"),
                Unit("resolution", "lan"),
            },
        ),
    ],
)
def test_what_a_change_touches_is_known_exactly_and_does_not_grow_with_the_fleet(
    change: Commit, touched: set[Unit]
) -> None:
    for number_of_peers in (10, 1_000):
        assert touched_by(number_of_peers, change) == touched


@given(st.lists(histories.commits(), max_size=5), histories.routes())
def test_a_route_over_known_groups_touches_no_peer(commits: list[Commit], new: Entity) -> None:
    all_named = policy("names-all", rule("names-all-rule", enabled=False, sources=histories.GROUPS))
    fold = Fold(*commits, commit(all_named))
    index = FeedIndex(fold.state)
    touched = index.touched(fold.apply(commit(new)))
    assert {unit.kind for unit in touched} <= {"route", "resolution", "presence"}
