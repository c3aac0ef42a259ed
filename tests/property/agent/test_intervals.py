"""Ranges against counting addresses one by one."""

from ipaddress import IPv4Address, ip_network
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.intervals import Range, merge, of, parse, partition, subtract, text
from services.agent.core.pieces import Pieces

BASE = int(IPv4Address("10.0.0.0"))


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    length = draw(st.integers(24, 32))
    return str(ip_network((BASE + draw(st.integers(0, 255)), length), strict=False))


def members(prefix: str) -> set[int]:
    return {int(address) for address in ip_network(prefix)}


def numbers(ranges: list[Range]) -> list[int]:
    return [number for piece in ranges for number in range(piece.first, piece.last + 1)]


@given(st.lists(prefixes()))
def test_merging_keeps_every_address_once_in_the_fewest_ranges_w15(found: list[str]) -> None:
    merged = merge(of(parse(prefix)) for prefix in found)
    everything = set[int]().union(*map(members, found))
    assert numbers(merged) == sorted(everything)
    assert len(merged) == sum(number - 1 not in everything for number in everything)


@given(st.lists(prefixes()), st.lists(prefixes()))
def test_subtracting_leaves_what_is_in_no_hole(found: list[str], holes: list[str]) -> None:
    left = subtract([of(parse(prefix)) for prefix in found], [of(parse(hole)) for hole in holes])
    assert numbers(left) == sorted(set[int]().union(*map(members, found)) - set[int]().union(*map(members, holes)))


@given(st.lists(st.tuples(prefixes(), st.sampled_from("abc"))))
def test_pieces_are_disjoint_and_carry_the_labels_of_all_that_cover_them_a5(labelled: list[tuple[str, str]]) -> None:
    pieces = partition((of(parse(prefix)), label) for prefix, label in labelled)
    got = {number: labels for piece, labels in pieces for number in numbers([piece])}
    expected: dict[int, set[str]] = {}
    for prefix, label in labelled:
        for number in members(prefix):
            expected.setdefault(number, set()).add(label)
    assert got == expected
    assert sum(len(numbers([piece])) for piece, _ in pieces) == len(got)
    assert all(a[1] != b[1] or a[0].last + 1 < b[0].first for a, b in pairwise(pieces))


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_text_of_a_range_is_a_prefix_wherever_it_is_one(one: int, other: int) -> None:
    first, last = BASE + min(one, other), BASE + max(one, other)
    written = text(Range(first, last), 4)
    if "-" in written:
        assert [int(IPv4Address(end)) for end in written.split("-")] == [first, last]
        assert not any(
            int(network.network_address) == first and int(network.broadcast_address) == last
            for length in range(24, 33)
            for network in [ip_network((first, length), strict=False)]
        )
    else:
        network = ip_network(written)
        assert (int(network.network_address), int(network.broadcast_address)) == (first, last)
        assert ("/" in written) == (first != last)


changes = st.lists(st.tuples(st.sampled_from("abc"), st.lists(prefixes(), max_size=3)), max_size=12)


@given(changes)
def test_pieces_changed_range_by_range_are_those_of_all_ranges_at_once(history: list[tuple[str, list[str]]]) -> None:
    pieces, held, ranges = Pieces[str](), dict[tuple[int, int], frozenset[str]](), dict[str, list[Range]]()
    for label, found in history:
        former, ranges[label] = ranges.get(label, []), merge(of(parse(prefix)) for prefix in found)
        for change, covered in ((pieces.remove, former), (pieces.add, ranges[label])):
            for piece in covered:
                gone, came = change(piece, label)
                for first, last, labels in gone:
                    assert held.pop((first, last)) == labels
                held |= {(first, last): labels for first, last, labels in came}
        expected = partition((piece, label) for label, covered in ranges.items() for piece in covered)
        assert held == {(piece.first, piece.last): labels for piece, labels in expected}
