"""core/ha/moves.py: a switch is told of when traffic goes elsewhere, and of what was taken back before, nothing."""

from services.agent.core.ha.moves import Moves
from services.agent.core.ha.standing import Switch
from services.agent.core.routing.hagroups import HaKey

LAN: HaKey = ("lan", "10.1.0.0/16", ())
NAMES: HaKey = ("names", "", ("a.example", "b.example"))


def switch(former: str, now: str, at: float = 1.0, network_id: str = "lan", where: str = "10.1.0.0/16") -> Switch:
    names = {"former_name": former.upper(), "now_name": now.upper()}
    return Switch(
        at=at, network_id=network_id, where=where, former=former, now=now, cause="metric", reason="r", **names
    )


def test_what_does_not_wait_is_told_as_it_was_decided() -> None:
    assert Moves().update([switch("a", "b")], {NAMES}, 9.0) == (switch("a", "b"),)


def test_what_waits_is_told_once_when_it_happens_with_the_time_of_that() -> None:
    moves = Moves()
    assert moves.update([switch("a", "b")], {LAN}, 1.0) == ()
    assert moves.update([], {LAN}, 5.0) == ()
    assert moves.update([], (), 9.0) == (switch("a", "b", at=9.0),)
    assert moves.update([], (), 10.0) == ()


def test_what_is_taken_back_before_was_none() -> None:
    moves = Moves()
    moves.update([switch("a", "b")], {LAN}, 1.0)
    assert moves.update([switch("b", "a", at=2.0)], (), 2.0) == ()
    assert moves.update([], (), 3.0) == ()


def test_of_two_decisions_before_the_moment_comes_the_last_one_happens() -> None:
    moves = Moves()
    moves.update([switch("a", "b")], {LAN}, 1.0)
    assert moves.update([switch("b", "c", at=2.0)], {LAN}, 2.0) == ()
    assert moves.update([], (), 3.0) == (switch("a", "c", at=3.0),)


def test_who_goes_before_its_successor_had_its_moment_is_left_at_once() -> None:
    moves = Moves()
    moves.update([switch("a", "b")], {LAN}, 1.0)
    assert moves.update([switch("b", "", at=2.0)], (), 2.0) == (switch("a", "", at=2.0),)


def test_sets_of_names_wait_by_their_names() -> None:
    moves, where = Moves(), "a.example, b.example"
    assert moves.update([switch("a", "b", network_id="names", where=where)], {NAMES}, 1.0) == ()
    assert [one.at for one in moves.update([], {LAN}, 9.0)] == [9.0]
