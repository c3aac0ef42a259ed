"""One question to several servers: who is asked when, and what counts as an answer (reference agent §5.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.dns.race import Race, Standings, Verdict, verdict
from shared.events.documents import DnsServer


def server(number: int) -> DnsServer:
    return DnsServer(f"10.0.0.{number}", 53)


FORWARDER_S = 4.0
"""After which a forwarder says that nobody answers."""
ONE, TWO, THREE, FOUR = map(server, (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("rcode", "errors", "found"),
    [
        (0, (), "final"),
        (3, (), "final"),
        (2, (), "failed"),
        (2, (22,), "failed"),
        (2, (6,), "final"),
        (2, (15,), "final"),
        (5, (), "failed"),
        (5, (15,), "failed"),
        (1, (), "failed"),
        (4, (), "failed"),
    ],
)
def test_a_name_that_does_not_exist_is_an_answer_and_a_server_that_cannot_is_none(
    rcode: int, errors: tuple[int, ...], found: Verdict
) -> None:
    assert verdict(rcode, errors) == found


def test_the_servers_of_a_group_are_asked_one_after_the_other() -> None:
    race = Race([(ONE, TWO)], 100.0)
    assert race.due(100.0) == (ONE,)
    assert race.due(102.4) == ()
    assert race.next_deadline() == 102.5
    assert race.due(102.5) == (TWO,)
    assert race.asked == {ONE, TWO}
    assert not race.is_over(104.9)
    assert race.is_over(105.0)


@pytest.mark.parametrize(("count", "times"), [(1, [0.0]), (2, [0.0, 2.5]), (3, [0.0, 2.0, 4.0])])
def test_each_server_has_two_seconds_at_least_before_the_next_one_is_asked(count: int, times: list[float]) -> None:
    race = Race([tuple(map(server, range(count)))], 0.0)
    found = {at: race.due(at) for at in (tick / 10 for tick in range(60))}
    assert [at for at, servers in found.items() if servers] == times


def test_a_server_that_cannot_makes_the_next_one_due_at_once() -> None:
    race = Race([(ONE, TWO)], 0.0)
    race.due(0.0)
    race.failed(ONE, 0.1)
    assert race.due(0.1) == (TWO,)
    race.failed(TWO, 0.2)
    assert race.is_over(0.2)


def test_a_server_alone_has_longer_than_a_forwarder_takes_to_say_that_nobody_answers() -> None:
    race = Race([(ONE,)], 0.0)
    race.due(0.0)
    assert FORWARDER_S < race.next_deadline() < 5.0
    assert not race.is_over(FORWARDER_S + 0.4)


def test_groups_race() -> None:
    race = Race([(ONE, TWO), (THREE,)], 0.0)
    assert race.due(0.0) == (ONE, THREE)
    race.failed(THREE, 0.1)
    assert not race.is_over(4.9)
    race.failed(ONE, 0.2)
    assert race.due(0.2) == (TWO,)
    race.failed(TWO, 0.3)
    assert race.is_over(0.3)


def test_a_server_of_two_groups_is_asked_once() -> None:
    race = Race([(ONE, TWO), (ONE, THREE)], 0.0)
    assert race.due(0.0) == (ONE, THREE)


@pytest.mark.parametrize(
    "groups",
    [[(ONE, TWO), (TWO,)], [(ONE, TWO), (TWO, ONE)], [(ONE, TWO), (ONE,), (TWO, THREE)], [(ONE, ONE)]],
    ids=str,
)
def test_groups_that_share_servers_of_which_each_refuses_are_over(groups: list[tuple[DnsServer, ...]]) -> None:
    race, asked = Race(groups, 0.0), list[DnsServer]()
    while not race.is_over(0.0):
        asked += race.due(0.0)
        assert race.next_deadline() > 0.0
        race.failed(next(server for server in asked if server in race.asked), 0.0)
    assert len(asked) == len({server for group in groups for server in group})


def test_nobody_to_ask_is_over_at_once() -> None:
    assert Race([], 0.0).is_over(0.0)
    assert Race([()], 0.0).is_over(0.0)


def test_who_had_its_share_and_did_not_answer_was_silent() -> None:
    race = Race([(ONE, TWO)], 0.0)
    race.due(0.0)
    assert race.silent(2.4) == ()
    race.due(2.5)
    assert race.silent(2.6) == (ONE,)
    assert race.silent(5.0) == (ONE, TWO)


def test_a_server_that_was_silent_twice_is_asked_last_for_thirty_seconds() -> None:
    standings = Standings()
    standings.was_silent(ONE, 100.0)
    assert standings.ordered((ONE, TWO), 100.0) == (ONE, TWO)
    standings.was_silent(ONE, 105.0)
    assert standings.ordered((ONE, TWO), 105.0) == (TWO, ONE)
    assert standings.ordered((ONE,), 105.0) == (ONE,)
    assert standings.ordered((ONE, TWO), 135.0) == (ONE, TWO)


def test_an_answer_makes_up_for_silence() -> None:
    standings = Standings()
    standings.was_silent(ONE, 1.0)
    standings.answered(ONE)
    standings.was_silent(ONE, 2.0)
    assert not standings.is_left_out(ONE, 2.0)


def test_servers_that_nobody_names_any_more_are_forgotten() -> None:
    standings = Standings()
    for at in (1.0, 2.0):
        standings.was_silent(ONE, at)
    standings.keep({TWO})
    assert not standings.is_left_out(ONE, 2.0)


@given(
    st.lists(st.lists(st.integers(1, 5), max_size=3).map(lambda numbers: tuple(map(server, numbers))), max_size=3),
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 5)), max_size=20),
)
def test_every_race_ends_within_five_seconds_and_asks_nobody_twice(
    groups: list[tuple[DnsServer, ...]], failures: list[tuple[float, int]]
) -> None:
    race, now, asked = Race(groups, 0.0), 0.0, list[DnsServer]()
    for wait_s, number in failures:
        asked += race.due(now)
        now += wait_s
        if server(number) in race.asked:
            race.failed(server(number), now)
    while not race.is_over(now):
        asked += race.due(now)
        if not race.is_over(now):
            later = race.next_deadline()
            assert later > now or race.due(now) == ()
            now = max(later, now + 0.001)
    assert now <= max(5.0, sum(wait_s for wait_s, _ in failures)) + 0.01
    assert len(asked) == len(set(asked))
