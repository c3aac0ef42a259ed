"""The index of routes finds what a look at every route finds."""

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.management.core.model.route import Route
from services.management.core.routeindex import RouteIndex
from tests.builders import route

PREFIXES = (
    *("10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/16", "10.1.0.0/16", "10.255.255.255/32", "0.0.0.0/0", "128.0.0.0/1"),
    *("fd00::/8", "fd00::/64", "fd00::1/128", "::/0", "8000::/1"),
)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    some = route(draw(st.sampled_from("abcdefgh")), draw(st.sampled_from(PREFIXES)))
    if draw(st.booleans()):
        some = route(some.id, domains=tuple(draw(st.lists(st.sampled_from(("x.test", "y.test")), min_size=1))))
    return replace(some, peer_groups=tuple(draw(st.lists(st.sampled_from(("g", "h"))))))


def ids(found: dict[str, Route], wanted: Callable[[Route], bool]) -> list[str]:
    return sorted(id for id, other in found.items() if wanted(other))


@given(st.lists(routes(), max_size=20), routes(), st.sampled_from(PREFIXES))
def test_after_any_changes_it_finds_what_a_scan_finds(changes: list[Route], asked: Route, prefix: str) -> None:
    index, there = RouteIndex(), dict[str, Route]()
    for changed in changes:
        if changed.id in there:
            index.drop(there[changed.id])
        there[changed.id] = changed
        index.put(changed)

    def overlaps(other: Route) -> bool:
        if not other.network or (other.network.endswith("/0") != prefix.endswith("/0")):
            return False
        one, two = ip_network(prefix), ip_network(other.network)
        return one.version == two.version and one.overlaps(two)

    assert sorted(other.id for other in index.overlapping(prefix)) == ids(there, overlaps)
    served = [other.id for other in index.served_by("g")]
    assert served == ids(there, lambda other: "g" in other.peer_groups)
    alike = [other.id for other in index.same_destination(asked)]
    assert alike == ids(there, lambda other: other.id != asked.id and other.same_destination(asked))
    for left in there.values():
        index.drop(left)
    assert vars(index) == vars(RouteIndex())  # nothing stays behind


@pytest.mark.parametrize(
    "one, other, expected",
    [
        ("10.0.0.0/8", "10.0.0.0/8", True),
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.1.0.0/16", "10.0.0.0/8", True),
        ("10.0.0.0/16", "10.1.0.0/16", False),
        ("0.0.0.0/0", "::/0", False),
        ("fd00::/8", "fd00::/64", True),
    ],
)
def test_prefixes_overlap_when_equal_or_nested(one: str, other: str, expected: bool) -> None:
    index = RouteIndex()
    index.put(route("one", one))
    assert bool(list(index.overlapping(other))) is expected
