"""Who carries an HA group: what makes a candidate better, what is worth a move, and how long it has to be so."""

from typing import Any

import pytest

from services.agent.core.ha.choice import Chosen, Memory, choose
from services.agent.core.ha.standing import Candidate


def one(name: str, **fields: Any) -> Candidate:
    plain: dict[str, Any] = {"metric": 100, "connected": True, "verdict": "up", "rtt_s": 0.01}
    return Candidate(peer_id=name, public_key=f"key of {name}", **{**plain, **fields})


class Group:
    """An HA group whose candidates change as time goes by."""

    def __init__(self, *candidates: Candidate, incumbent: str = "", at: float = 1000.0) -> None:
        self.now = at
        self.by_id = {candidate.peer_id: candidate for candidate in candidates}
        self.incumbent = incumbent
        self.memory = Memory()
        self.last: Chosen
        self.why = ("", "")
        self.look()

    def look(self, *changes: Candidate) -> str:
        self.by_id |= {candidate.peer_id: candidate for candidate in changes}
        self.last = choose(self.by_id.values(), self.incumbent, self.memory, self.now)
        self.incumbent, self.memory = self.last.peer_id, self.last.memory
        if self.last.cause:
            self.why = self.last.cause, self.last.reason
        return self.incumbent

    def after(self, seconds: float, *changes: Candidate) -> str:
        """Looks whenever it asks to be looked at, and then at the changes."""
        until = self.now + seconds
        while (due := self.last.next_deadline) is not None and due <= until:
            assert due > self.now
            self.now = due
            self.look()
        self.now = until
        return self.look(*changes)

    def state(self, name: str) -> tuple[str, str]:
        return next((found.state, found.why) for found in self.last.ranked if found.peer_id == name)


@pytest.mark.parametrize(
    ("best", "other"),
    [
        ({"metric": 9999}, {"connected": False}),
        ({"metric": 9999}, {"verdict": "down"}),
        ({"metric": 9999}, {"withdrawn": "its LAN is gone"}),
        ({"draining": True}, {"verdict": "down"}),
        ({"agentless": True}, {"connected": False}),
        ({"verdict": "unknown", "rtt_s": 0.0}, {"verdict": "down"}),
        ({"metric": 9999}, {"agentless": True}),
        ({"metric": 9999}, {"draining": True}),
        ({"agentless": True, "metric": 9999}, {"draining": True}),
        ({"metric": 9999, "holds": True}, {"metric": 1}),
        ({"agentless": True, "holds": True}, {"holds": False}),
        ({"holds": False}, {"draining": True, "holds": True}),
        ({"metric": 99, "relayed": True}, {"metric": 100}),
        ({"metric": 99, "rtt_s": 0.3}, {"metric": 100}),
        ({"rtt_s": 0.3}, {"relayed": True}),
        ({"rtt_s": 0.3}, {"verdict": "unknown", "rtt_s": 0.0}),
        ({"rtt_s": 0.009}, {"rtt_s": 0.01}),
    ],
)
@pytest.mark.parametrize("names", ["ab", "ba"])
def test_usable_before_not_draining_before_holder_before_agent_before_metric_before_path_before_latency_g1(
    best: dict[str, Any], other: dict[str, Any], names: str
) -> None:
    found = Group(one(names[0], **best), one(names[1], **other))
    assert (found.incumbent, found.why[0]) == (names[0], "first")


def test_ties_go_to_the_lowest_id_g1() -> None:
    assert Group(one("b"), one("a"), one("c")).incumbent == "a"


@pytest.mark.parametrize("grade", [{}, {"draining": True}, {"agentless": True}])
@pytest.mark.parametrize(
    ("fault", "cause", "reason"),
    [
        ({"verdict": "down"}, "down", "the one before does not answer"),
        ({"connected": False}, "lost", "the one before lost its WireGuard session"),
        ({"withdrawn": "eth1 is gone"}, "withdrawn", "the one before withdrew: eth1 is gone"),
    ],
)
def test_an_incumbent_that_cannot_carry_is_left_at_once(
    fault: dict[str, Any], cause: str, reason: str, grade: dict[str, Any]
) -> None:
    found = Group(one("a"), one("b", metric=200, verdict="unknown", **grade), incumbent="a")
    assert found.look(one("a", **fault)) == "b"
    assert found.why == (cause, reason)


def test_whoever_is_no_routing_peer_any_more_is_left_at_once() -> None:
    found = Group(one("b"), incumbent="a")
    assert (found.incumbent, found.why[0]) == ("b", "gone")


@pytest.mark.parametrize("silent", [{"verdict": "unknown"}, {"verdict": "unknown", "rtt_s": 0.0}])
def test_unknown_is_no_reason_to_leave_g2(silent: dict[str, Any]) -> None:
    found = Group(one("a", **silent), one("b"), incumbent="a")
    assert found.after(3600) == "a"


@pytest.mark.parametrize(
    ("incumbent_ms", "other_ms", "moves"),
    [(30.0, 20.1, False), (30.0, 20.0, False), (30.0, 10.1, False), (30.0, 10.0, False), (30.0, 9.9, True)],
)
def test_equals_are_left_for_one_that_is_nearer_by_more_than_20_ms_g1(
    incumbent_ms: float, other_ms: float, moves: bool
) -> None:
    found = Group(one("a", rtt_s=incumbent_ms / 1000), one("b", rtt_s=other_ms / 1000), incumbent="a")
    assert found.after(2.9) == "a"
    assert found.after(0.2) == ("b" if moves else "a")
    assert found.last.next_deadline is None


@pytest.mark.parametrize(
    ("incumbent_ms", "other_ms", "moves"), [(25.0, 9.9, False), (9.9, 25.0, False), (12.0, 12.9, True)]
)
def test_a_path_is_nearer_only_by_more_than_single_round_trips_differ_g1(
    incumbent_ms: float, other_ms: float, moves: bool
) -> None:
    found = Group(
        one("a", rtt_s=0.06, spread_s=incumbent_ms / 1000),
        one("b", rtt_s=0.015, spread_s=other_ms / 1000),
        incumbent="a",
    )
    assert found.after(3600) == ("b" if moves else "a")


def test_what_is_nearer_has_to_be_so_for_3_s_without_a_break_g1() -> None:
    found = Group(one("a", rtt_s=0.03), one("b", rtt_s=0.005), incumbent="a")
    assert found.after(2.9, one("b", rtt_s=0.015)) == "a"
    assert found.after(0.1, one("b", rtt_s=0.005)) == "a"
    assert found.after(2.9) == "a"
    assert found.after(0.1) == "b"
    assert found.why == ("latency", "5 ms instead of 30 ms")


@pytest.mark.parametrize("unmeasured", ["a", "b"])
def test_what_was_not_measured_is_not_nearer(unmeasured: str) -> None:
    rtts = {"a": 0.05, "b": 0.01, unmeasured: 0.0}
    found = Group(*(one(name, rtt_s=rtt_s) for name, rtt_s in rtts.items()), incumbent="a")
    assert found.after(60) == "a"


@pytest.mark.parametrize(
    ("worse", "better", "cause"),
    [
        ({"metric": 101}, {}, "metric"),
        ({"agentless": True, "metric": 101}, {}, "metric"),
        ({"relayed": True}, {"rtt_s": 0.5}, "path"),
    ],
)
def test_the_better_one_carries_after_it_was_good_for_3_s_g4(
    worse: dict[str, Any], better: dict[str, Any], cause: str
) -> None:
    found = Group(one("a", **{**better, "verdict": "down"}), one("b", **worse), incumbent="b")
    assert found.after(60) == "b"
    found.look(one("a", **better))
    assert found.after(2.9) == "b"
    assert found.after(0.1) == "a"
    assert found.why[0] == cause


def test_an_incumbent_without_an_agent_stays_and_one_that_was_left_is_not_gone_back_to() -> None:
    """Its kernel carries: a move would break connections. Nobody goes to it, though, who has the choice."""
    found = Group(one("a"), one("b", metric=101), incumbent="a")
    found.look(one("a", agentless=True))
    assert found.after(600) == "a"
    assert found.look(one("a", agentless=True, verdict="down")) == "b"
    found.look(one("a", agentless=True))
    assert found.after(600) == "b"
    found.look(one("a"))
    assert found.after(3.1) == "a"


def test_a_better_one_that_does_not_answer_is_not_gone_back_to_g4() -> None:
    """After a start nothing was heard of it yet, and WireGuard may take it for there for a minute."""
    found = Group(one("a", metric=1, verdict="unknown", rtt_s=0.0), one("b"), incumbent="b")
    assert found.after(60) == "b"


def test_where_nobody_answers_probes_being_there_is_enough_g4() -> None:
    silent: dict[str, Any] = {"verdict": "unknown", "rtt_s": 0.0}
    found = Group(one("a", metric=1, connected=False, **silent), one("b", **silent), incumbent="b")
    found.look(one("a", metric=1, **silent))
    assert found.after(2.9) == "b"
    assert found.after(0.1) == "a"


def test_at_the_first_choice_and_after_a_fall_nobody_waits_g4() -> None:
    found = Group(one("a", metric=1), one("b"), one("c", metric=200))
    assert found.incumbent == "a"
    assert found.look(one("a", metric=1, verdict="down"), one("b", connected=False)) == "c"
    assert found.look(one("b"), one("c", metric=200, connected=False)) == "b"


def test_who_holds_the_return_address_carries_at_once() -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="a")
    assert found.look(one("b", holds=True)) == "b"
    assert found.why == ("holder", "it holds the return address")
    assert found.look(one("b", holds=True, verdict="down")) == "a"


def test_a_draining_one_is_left_at_once_and_used_only_when_nobody_else_is_usable_g6() -> None:
    found = Group(one("a", metric=1), one("b", verdict="unknown", agentless=True), incumbent="a")
    assert found.look(one("a", metric=1, draining=True)) == "b"
    assert found.why[0] == "drain"
    assert found.after(60) == "b"
    assert found.look(one("b", verdict="down")) == "a"
    assert found.state("a") == ("in use", "draining")
    assert found.look(one("b", metric=9999)) == "b"


def test_from_one_that_drains_nobody_goes_to_another_that_drains_g6() -> None:
    found = Group(one("a", draining=True), one("b", draining=True), incumbent="b")
    assert found.after(60) == "b"


@pytest.mark.parametrize(
    ("fault", "cause"), [({"connected": False}, "lost"), ({"withdrawn": "eth1 is gone"}, "withdrawn")]
)
def test_with_nobody_else_it_is_nobody_at_once_when_the_incumbent_went_r2(fault: dict[str, Any], cause: str) -> None:
    found = Group(one("a"), one("b", connected=False), incumbent="a")
    assert found.look(one("a", **fault)) == ""
    assert found.why[0] == cause
    assert found.why[1].endswith(", and no other is usable")
    assert found.look(one("a")) == "a"
    assert found.why == ("back", "it is usable again, and nobody was")


def test_a_start_with_nobody_there_yet_is_no_return_of_anybody() -> None:
    found = Group(one("a", connected=False))
    assert (found.incumbent, found.last.reason) == ("", "none is usable")
    assert found.look(one("a")) == "a"
    assert found.why[0] == "first"


@pytest.mark.parametrize("others", [(), (one("b", withdrawn="no link"),)])
def test_with_nobody_else_a_silent_incumbent_is_kept_for_10_s_r2(others: tuple[Candidate, ...]) -> None:
    found = Group(one("a"), *others, incumbent="a")
    assert found.look(one("a", verdict="down")) == "a"
    assert found.last.is_silent
    assert found.after(9.9) == "a"
    assert found.after(0.1) == ""
    assert found.why[0] == "down"


def test_a_silent_incumbent_that_answers_again_begins_anew_r2() -> None:
    found = Group(one("a"), incumbent="a")
    found.look(one("a", verdict="down"))
    assert found.after(9.9, one("a")) == "a"
    assert not found.last.is_silent
    found.look(one("a", verdict="down"))
    assert found.after(9.9) == "a"
    assert found.after(0.2) == ""


def fall(found: Group, times: int, apart_s: float) -> None:
    """The better one falls, is back at once, and stays until the next fall."""
    for _ in range(times):
        found.look(one("a", metric=1, verdict="down"))
        found.look(one("a", metric=1))
        found.after(apart_s)


@pytest.mark.parametrize(
    ("falls", "wait_s"), [(1, 3), (2, 3), (3, 6), (4, 12), (5, 24), (6, 48), (7, 60), (8, 60), (20, 60)]
)
def test_who_falls_again_and_again_is_waited_for_longer_and_longer_g4(falls: int, wait_s: float) -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="b")
    fall(found, falls - 1, 1.0)
    fall(found, 1, 0.0)
    assert found.after(wait_s - 0.1) == "b"
    assert found.after(0.1) == "a"


def test_falls_that_lie_apart_are_forgotten_g4() -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="b")
    fall(found, 9, 31.0)
    fall(found, 1, 2.9)
    assert found.incumbent == "b"
    assert found.after(0.1) == "a"


def test_each_minute_without_a_fall_halves_the_wait_g4() -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="b")
    fall(found, 5, 0.0)
    assert found.state("a") == ("damped", "after 24 s, since it fell 3 times within a minute")
    found.look(one("a", metric=1, draining=True))
    found.after(121.0, one("a", metric=1, draining=True))
    found.look(one("a", metric=1, verdict="down"))
    found.look(one("a", metric=1))
    assert found.after(5.9) == "b"
    assert found.after(0.1) == "a"
    assert found.why[1] == "metric 1 instead of 100, after 6 s, since it fell 3 times within a minute"


def test_who_is_damped_is_used_at_once_when_nobody_else_is_usable_g4() -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="b")
    fall(found, 6, 0.0)
    assert found.look(one("b", connected=False)) == "a"


def test_a_peer_with_another_key_is_another_one() -> None:
    found = Group(one("a", metric=1), one("b"), incumbent="b")
    fall(found, 6, 0.0)
    found.look(Candidate(peer_id="a", public_key="another", metric=1, connected=True, verdict="up", rtt_s=0.01))
    assert found.after(3.0) == "a"


def test_a_clock_that_jumps_back_changes_nothing() -> None:
    found = Group(one("a", metric=1, verdict="down"), one("b"), incumbent="b")
    found.look(one("a", metric=1))
    found.after(2.0)
    found.now -= 3600
    assert found.look() == "b"
    found.now += 3600 + 1.0
    assert found.look() == "a"


def test_people_see_how_each_candidate_stands_best_first() -> None:
    found = Group(
        one("a", withdrawn="eth1 is gone"),
        one("b", connected=False),
        one("c", verdict="down"),
        one("d", draining=True),
        one("e", agentless=True),
        one("f", metric=200),
        one("g", metric=300),
        one("h"),
    )
    assert [(ranked.peer_id, ranked.state, ranked.why) for ranked in found.last.ranked] == [
        ("h", "in use", ""),
        ("f", "standby", ""),
        ("g", "ready", ""),
        ("e", "no agent", ""),
        ("d", "draining", ""),
        ("a", "withdrawn", "eth1 is gone"),
        ("b", "no session", ""),
        ("c", "down", "it does not answer"),
    ]
