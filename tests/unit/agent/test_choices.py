"""Which routes are in use: the cases of the reference (reference agent §7, §10.3)."""

import pytest

from services.agent.core import parsed
from services.agent.core.routing.choices import DESELECT_ALL, SELECT_ALL, Selection, deselect, select, selected
from services.agent.core.routing.hagroups import HaGroup, ha_groups
from tests.unit.agent import make

LAN = parsed.route(make.route("lan", "10.1.0.0/16"))


def exit_node(name: str, network: str = "0.0.0.0/0", *, auto: bool = True) -> HaGroup:
    return ha_groups([parsed.route(make.route(name, network, skip_auto_apply=not auto))])[0]


def offer(*exits: HaGroup) -> tuple[HaGroup, ...]:
    return (*exits, *ha_groups([LAN]))


A, B, C = (exit_node(name) for name in "abc")
A_V6 = exit_node("a-v6", "::/0")
MANUAL = exit_node("m", auto=False)


def chosen(*ids: str) -> Selection:
    return Selection(selected=frozenset(ids))


def left_out(*ids: str) -> Selection:
    return Selection(deselected=frozenset(ids))


@pytest.mark.parametrize(
    ("exits", "selection", "used"),
    [
        ((A, B), chosen("b"), {"b"}),
        ((A, C), chosen("c", "a"), {"a"}),
        ((A, B), left_out("a", "b"), set()),
        ((A, B, C), Selection(), {"a"}),
        ((B,), Selection(), {"b"}),
        ((), Selection(), set()),
        ((A, B), left_out("a"), {"b"}),
        ((MANUAL,), Selection(), set()),
        ((MANUAL, A), Selection(), {"a"}),
        ((MANUAL,), chosen("m"), {"m"}),
        ((MANUAL, A), chosen("m"), {"m"}),
        ((A, A_V6, B), Selection(), {"a", "a-v6"}),
        ((A, A_V6, B), chosen("b"), {"b"}),
        ((A, A_V6), Selection(selected=frozenset({"a-v6"}), deselected=frozenset({"a"})), set()),
        ((A, B), chosen("gone"), {"a"}),
    ],
)
def test_at_most_one_exit_node_is_in_use_and_other_routes_are_untouched(
    exits: tuple[HaGroup, ...], selection: Selection, used: set[str]
) -> None:
    assert selected(selection, offer(*exits)) == used | {"lan"}


def test_after_deselecting_everything_nothing_is_in_use_not_even_what_comes_later() -> None:
    assert selected(DESELECT_ALL, offer(A)) == frozenset()


def test_all_routes_are_in_use_unless_someone_says_otherwise() -> None:
    assert selected(SELECT_ALL, offer(A, B)) == {"a", "lan"}
    assert selected(left_out("lan"), offer()) == frozenset()


OFFER = offer(A, A_V6, B)


@pytest.mark.parametrize(
    ("before", "ids", "used", "unknown"),
    [
        (SELECT_ALL, ["a"], {"a", "a-v6", "lan"}, ()),
        (SELECT_ALL, ["b"], {"b", "lan"}, ()),
        (chosen("b"), ["lan"], {"b", "lan"}, ()),
        (SELECT_ALL, ["missing", "b"], {"a", "a-v6", "lan"}, ("missing",)),
        (SELECT_ALL, ["b", "missing", "none"], {"a", "a-v6", "lan"}, ("missing", "none")),
        (chosen("b"), ["missing", "a"], {"b", "lan"}, ("missing",)),
        (SELECT_ALL, ["missing"], {"a", "a-v6", "lan"}, ("missing",)),
        (DESELECT_ALL, ["lan"], {"lan"}, ()),
        (SELECT_ALL, ["a-v6"], {"a", "a-v6", "lan"}, ()),
        (SELECT_ALL, ["b", "a"], {"a", "a-v6", "lan"}, ()),
    ],
)
def test_selecting_adds_to_what_is_in_use_and_an_exit_node_replaces_its_siblings(
    before: Selection, ids: list[str], used: set[str], unknown: tuple[str, ...]
) -> None:
    after, missing = select(before, OFFER, ids, append=True)
    assert selected(after, OFFER) == used
    assert missing == unknown


def test_selecting_without_append_deselects_what_is_not_named_and_leaves_what_comes_later() -> None:
    after, _ = select(SELECT_ALL, OFFER, ["lan"], append=False)
    assert selected(after, OFFER) == {"lan"}
    later = ha_groups([parsed.route(make.route("later", "10.9.0.0/16"))])
    assert selected(after, (*OFFER, *later)) == {"lan", "later"}


def test_selecting_an_unknown_network_changes_nothing() -> None:
    assert select(chosen("b"), OFFER, ["missing"], append=False) == (chosen("b"), ("missing",))


@pytest.mark.parametrize(
    ("before", "ids", "used", "unknown"),
    [
        (chosen("b"), ["b"], {"lan"}, ()),
        (SELECT_ALL, ["a"], {"lan"}, ()),
        (SELECT_ALL, ["lan"], {"a", "a-v6"}, ()),
        (SELECT_ALL, ["missing", "lan"], {"a", "a-v6", "lan"}, ("missing",)),
        (chosen("b"), ["b", "missing"], {"b", "lan"}, ("missing",)),
        (DESELECT_ALL, ["lan"], set(), ()),
    ],
)
def test_deselecting_an_exit_node_does_not_bring_the_next_one(
    before: Selection, ids: list[str], used: set[str], unknown: tuple[str, ...]
) -> None:
    after, missing = deselect(before, OFFER, ids)
    assert selected(after, OFFER) == used
    assert missing == unknown


@pytest.mark.parametrize(
    ("groups", "twins"),
    [
        ([("0.0.0.0/0", "x"), ("::/0", "x-v6")], {"x", "x-v6"}),
        ([("0.0.0.0/0", "x"), ("::/0", "x")], {"x"}),
        ([("10.0.0.0/8", "office"), ("::/0", "office-v6")], {"office", "office-v6"}),
        ([("0.0.0.0/0", "x"), ("fd00::/8", "x-v6")], {"x", "x-v6"}),
    ],
)
def test_an_exit_node_and_its_ipv6_twin_are_one_choice(groups: list[tuple[str, str]], twins: set[str]) -> None:
    offered = ha_groups(parsed.route(make.route(f"{i}{n}", n, network_id=i)) for n, i in groups)
    assert selected(SELECT_ALL, offered) == twins


def test_a_name_that_only_looks_like_a_twin_is_an_exit_node_of_its_own() -> None:
    offered = ha_groups(
        parsed.route(make.route(network_id, "0.0.0.0/0", network_id=network_id)) for network_id in ("x", "x-v6")
    )
    assert selected(SELECT_ALL, offered) == {"x"}
