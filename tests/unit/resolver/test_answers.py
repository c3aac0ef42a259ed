"""What answers make of a name's addresses (decision R1)."""

from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.resolver.core.answers import Answer, KeepLimits, alike, fold, merged, restored, usable
from shared.events.documents import ResolvedAddress

Addresses: TypeAlias = tuple[ResolvedAddress, ...]

DAY_S = 86_400.0
LIMITS = KeepLimits(per_name=1_024, max_age_s=7 * DAY_S)
FOR_EVER = KeepLimits(per_name=1_024, max_age_s=0.0)


def at(address: str, last_seen: float, expires_at: float = 0.0) -> ResolvedAddress:
    return ResolvedAddress(address, last_seen, expires_at)


KNOWN = (at("192.0.2.1", 0.0), at("192.0.2.2", 0.0), at("2001:db8::1", 0.0))


@pytest.mark.parametrize(
    ("v4", "v6", "expected"),
    [
        pytest.param(("192.0.2.2", "192.0.2.3"), (), {"192.0.2.2", "192.0.2.3"}, id="no IPv6 any more"),
        pytest.param(("192.0.2.3",), None, {"192.0.2.3", "2001:db8::1"}, id="IPv6 was not answered"),
        pytest.param(None, ("2001:db8::2",), {"192.0.2.1", "192.0.2.2", "2001:db8::2"}, id="IPv4 was not answered"),
        pytest.param((), ("2001:db8::1",), {"2001:db8::1"}, id="IPv6 only"),
        pytest.param((), (), {"192.0.2.1", "192.0.2.2", "2001:db8::1"}, id="the name does not exist"),
        pytest.param(None, None, {"192.0.2.1", "192.0.2.2", "2001:db8::1"}, id="nothing was answered"),
        pytest.param(None, (), {"192.0.2.1", "192.0.2.2", "2001:db8::1"}, id="IPv4 failed and there is no IPv6"),
    ],
)
def test_r1_without_keep_route_the_newest_answer_replaces_family_by_family(
    v4: tuple[str, ...] | None, v6: tuple[str, ...] | None, expected: set[str]
) -> None:
    after = fold(KNOWN, Answer(v4=v4, v6=v6), keep=False, now=60.0, limits=LIMITS)
    assert {each.address for each in after} == expected
    assert {each.expires_at for each in after} == {0.0}


def test_r1_with_keep_route_new_addresses_join_and_old_ones_expire_after_they_were_last_seen() -> None:
    first = fold((), Answer(v4=("192.0.2.1", "192.0.2.2"), v6=()), keep=True, now=0.0, limits=LIMITS)
    second = fold(first, Answer(v4=("192.0.2.2",), v6=()), keep=True, now=60.0, limits=LIMITS)
    third = fold(second, Answer(v4=("192.0.2.3",), v6=()), keep=True, now=120.0, limits=LIMITS)
    assert third == (
        at("192.0.2.1", 0.0, 7 * DAY_S),
        at("192.0.2.2", 60.0, 60.0 + 7 * DAY_S),
        at("192.0.2.3", 120.0),
    )


def test_r1_a_kept_address_that_comes_back_is_current_again() -> None:
    kept = (at("192.0.2.1", 0.0, 7 * DAY_S),)
    after = fold(kept, Answer(v4=("192.0.2.1",), v6=None), keep=True, now=60.0, limits=LIMITS)
    assert after == (at("192.0.2.1", 60.0),)


@pytest.mark.parametrize(("now", "there"), [(7 * DAY_S - 1, True), (7 * DAY_S, False)])
def test_r1_a_kept_address_ends_at_its_age(now: float, there: bool) -> None:
    after = fold((at("192.0.2.1", 0.0),), Answer(v4=("192.0.2.2",), v6=()), keep=True, now=now, limits=LIMITS)
    assert ("192.0.2.1" in {each.address for each in after}) is there


def test_r1_an_age_of_zero_keeps_for_ever() -> None:
    after = fold((at("192.0.2.1", 0.0),), Answer(v4=("192.0.2.2",), v6=()), keep=True, now=1e9, limits=FOR_EVER)
    assert after == (at("192.0.2.1", 0.0, 0.0), at("192.0.2.2", 1e9))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("answer", [Answer(v4=None, v6=None), Answer(v4=(), v6=()), Answer(v4=(), v6=None)])
def test_r1_a_failure_removes_nothing_not_even_what_is_overdue(answer: Answer, keep: bool) -> None:
    overdue = (at("192.0.2.1", 0.0, 7 * DAY_S),)
    assert fold(overdue, answer, keep=keep, now=30 * DAY_S, limits=LIMITS) == overdue


def test_r1_the_longest_unseen_go_first_when_there_are_too_many() -> None:
    known: Addresses = ()
    for second in range(6):
        answer = Answer(v4=(f"192.0.2.{second}",), v6=())
        known = fold(known, answer, keep=True, now=float(second), limits=KeepLimits(per_name=3, max_age_s=0.0))
    assert [each.address for each in known] == ["192.0.2.3", "192.0.2.4", "192.0.2.5"]


def test_r1_the_default_bounds() -> None:
    assert (KeepLimits().per_name, KeepLimits().max_age_s) == (1_024, 604_800.0)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        pytest.param(["10.0.0.2", "10.0.0.1", "10.0.0.2"], ("10.0.0.1", "10.0.0.2"), id="sorted, each once"),
        pytest.param(["2001:DB8:0::1", "fd00::1"], ("2001:db8::1", "fd00::1"), id="canonical text"),
        pytest.param(["::ffff:192.0.2.1"], ("192.0.2.1",), id="IPv4 in IPv6"),
        pytest.param(
            ["100.64.0.1", "172.16.0.1"], ("100.64.0.1", "172.16.0.1"), id="private ones are what routes are for"
        ),
        pytest.param(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"], (), id="the client itself"),
        pytest.param(["0.0.0.0", "0.1.2.3", "::"], (), id="blackholes"),
        pytest.param(["169.254.169.254", "fe80::1"], (), id="link-local"),
        pytest.param(["224.0.0.1", "ff02::1", "255.255.255.255"], (), id="multicast and broadcast"),
        pytest.param(["240.0.0.1", "255.255.255.254", "192.0.2.1"], ("192.0.2.1",), id="reserved"),
    ],
)
def test_only_addresses_that_a_route_may_lead_to_count(addresses: list[str], expected: tuple[str, ...]) -> None:
    assert usable(addresses) == expected


def test_what_was_current_when_the_fact_was_written_counts_as_seen_at_the_restart() -> None:
    fact = (at("192.0.2.2", 5.0, 500.0), at("192.0.2.1", 5.0))
    assert restored(fact, now=400.0) == (at("192.0.2.1", 400.0), at("192.0.2.2", 5.0, 500.0))


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        pytest.param((), (at("192.0.2.1", 1.0),), (at("192.0.2.1", 1.0),), id="only theirs"),
        pytest.param((at("192.0.2.1", 1.0),), (), (at("192.0.2.1", 1.0),), id="only mine"),
        pytest.param(
            (at("192.0.2.1", 9.0, 20.0),), (at("192.0.2.1", 1.0),), (at("192.0.2.1", 1.0),), id="current for one"
        ),
        pytest.param(
            (at("192.0.2.1", 1.0, 8.0),), (at("192.0.2.1", 2.0, 9.0),), (at("192.0.2.1", 2.0, 9.0),), id="newer"
        ),
    ],
)
def test_two_replicas_together_keep_what_either_keeps(mine: Addresses, theirs: Addresses, expected: Addresses) -> None:
    assert merged(mine, theirs, LIMITS) == expected


def test_when_a_current_address_was_last_seen_is_no_news() -> None:
    assert alike((at("192.0.2.1", 1.0),), (at("192.0.2.1", 61.0),))
    assert not alike((at("192.0.2.1", 1.0),), (at("192.0.2.1", 1.0, 9.0),))
    assert not alike((at("192.0.2.1", 1.0),), ())


pool = st.sampled_from([f"192.0.2.{n}" for n in range(6)] + [f"2001:db8::{n}" for n in range(6)])


def family(version: str) -> st.SearchStrategy[tuple[str, ...] | None]:
    mine = pool.filter(lambda address: (":" in address) == (version == "v6"))
    return st.none() | st.lists(mine, max_size=4, unique=True).map(lambda found: tuple(sorted(found)))


answers = st.lists(st.builds(Answer, v4=family("v4"), v6=family("v6")), max_size=12)


def after_all(history: list[Answer], *, keep: bool, limits: KeepLimits) -> Addresses:
    known: Addresses = ()
    for number, answer in enumerate(history):
        known = fold(known, answer, keep=keep, now=60.0 * number, limits=limits)
    return known


@given(answers)
def test_r1_kept_for_ever_means_every_address_ever_seen(history: list[Answer]) -> None:
    ever = {address for answer in history for address in (*(answer.v4 or ()), *(answer.v6 or ()))}
    assert {each.address for each in after_all(history, keep=True, limits=FOR_EVER)} == ever


@given(answers)
def test_r1_without_keep_each_family_has_its_last_answer_of_a_name_that_resolved(history: list[Answer]) -> None:
    resolved = [answer for answer in history if not answer.empty]
    last_v4 = next((answer.v4 for answer in reversed(resolved) if answer.v4 is not None), ())
    last_v6 = next((answer.v6 for answer in reversed(resolved) if answer.v6 is not None), ())
    got = after_all(history, keep=False, limits=LIMITS)
    assert [each.address for each in got] == sorted({*last_v4, *last_v6})


@given(answers, st.booleans(), st.integers(1, 5))
def test_r1_the_bound_holds_and_what_was_seen_last_survives_it(history: list[Answer], keep: bool, bound: int) -> None:
    known = after_all(history, keep=keep, limits=KeepLimits(per_name=bound, max_age_s=0.0))
    seen = [{*(answer.v4 or ()), *(answer.v6 or ())} for answer in history if not answer.empty]
    assert len(known) <= bound
    if seen:
        assert len(seen[-1] & {each.address for each in known}) == min(bound, len(seen[-1]))


@given(answers, answers)
def test_merging_does_not_depend_on_who_merges(one: list[Answer], other: list[Answer]) -> None:
    mine, theirs = after_all(one, keep=True, limits=LIMITS), after_all(other, keep=True, limits=LIMITS)
    both = merged(mine, theirs, LIMITS)
    assert alike(both, merged(theirs, mine, LIMITS))
    assert merged(both, theirs, LIMITS) == both
