"""Who sends too much, and for how long it stays out."""

import pytest

from services.management.admission.floods import Floods, Sent

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("began", "looks", "flooding"),
    [
        (0.0, [Sent(15_000, 0, 1.0)], False),
        (0.0, [Sent(25_000, 0, 1.0)], True),
        (0.0, [Sent(0, 60 * MEGABYTE, 1.0)], False),
        (0.0, [Sent(0, 70 * MEGABYTE, 1.0)], True),
        (0.0, [Sent(100_000_000, 0, 1_000_000.0)], False),
        (0.0, [Sent(100_000_000, 0, 1_000_000.0), Sent(100_019_000, 0, 1_000_010.0)], False),
        (0.0, [Sent(100_000_000, 0, 1_000_000.0), Sent(100_021_000, 0, 1_000_010.0)], True),
        (0.0, [Sent(100_000_000, 0, 1_000_000.0), Sent(100_030_000, 0, 1_000_020.0)], False),
        (0.0, [Sent(0, 0, 0.0), Sent(15_000, 0, 2.0), Sent(25_000, 0, 4.0)], True),
    ],
)
def test_more_than_twenty_thousand_messages_or_64_mib_within_ten_seconds_are_too_many(
    began: float, looks: list[Sent], flooding: bool
) -> None:
    floods = Floods()
    assert [floods.flooding("server", 7, sent, since=began) for sent in looks][-1] is flooding


def test_connections_of_other_servers_are_others() -> None:
    floods = Floods()
    assert not floods.flooding("a", 7, Sent(0, 0, 100.0), since=100.0)
    assert not floods.flooding("b", 7, Sent(15_000, 0, 101.0), since=100.0)
    assert floods.flooding("a", 7, Sent(25_000, 0, 101.0), since=100.0)


def test_a_connection_that_is_gone_is_forgotten_and_one_that_stays_is_not() -> None:
    floods = Floods()
    floods.flooding("a", 7, Sent(100_000_000, 0, 1_000_000.0), since=0.0)
    floods.forget("a", 1_000_060.0)
    assert floods.flooding("a", 7, Sent(100_200_000, 0, 1_000_060.0), since=0.0), "compared with the look before"
    floods.forget("a", 1_000_300.0)
    assert not floods.flooding("a", 7, Sent(100_000_000, 0, 1_000_300.0), since=0.0), "compared with its beginning"


def test_who_flooded_stays_out_for_five_minutes() -> None:
    floods = Floods()
    assert not floods.is_kept_out("acc", "alice", 1_000.0)
    floods.keep_out("acc", "alice", 1_000.0)
    assert floods.is_kept_out("acc", "alice", 1_299.0)
    assert not floods.is_kept_out("acc", "bob", 1_299.0)
    assert not floods.is_kept_out("acc", "alice", 1_300.0)
