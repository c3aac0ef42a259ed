"""When a routing peer is asked, and what its answers and its silence make of it."""

from itertools import pairwise
from random import Random

import pytest

from services.agent.core.ha.echo import Echo, Reason, Refused, checksum
from services.agent.core.ha.owntime import OwnTime
from services.agent.core.ha.probing import Prober, Question, Target
from tests.support.questions import Answer, World, never

BUSY, STANDBY, IDLE = Target("100.64.0.1", 0.2), Target("100.64.0.1", 1.0), Target("100.64.0.1", 5.0)


def dead_from(second: float, until: float = float("inf")) -> Answer:
    """Answers in 1 ms, but for those that are asked within these seconds of the test."""
    return lambda question, now: None if second <= now - 1000.0 < until else 0.001


def downs(world: World) -> list[float]:
    return [round(turn.at - 1000.0, 3) for turn in world.turns if turn.verdict == "down"]


@pytest.mark.parametrize(
    ("target", "asked"),
    [(BUSY, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (STANDBY, [0.0, 1.0]), (IDLE, [0.0])],
)
def test_a_target_is_asked_at_once_and_then_at_its_pace(target: Target, asked: list[float]) -> None:
    world = World({"gw": target})
    world.run(1.1)
    assert world.asked() == asked


def test_an_idle_client_asks_twelve_times_a_minute() -> None:
    world = World({"gw": IDLE})
    world.run(59.9)
    assert len(world.log) == 12


@pytest.mark.parametrize(
    ("target", "first"),
    [(BUSY, 10.0), (STANDBY, 10.0), (IDLE, 10.0)],
)
def test_silence_of_600_ms_since_the_first_unanswered_question_is_down_at_any_pace_g2(
    target: Target, first: float
) -> None:
    world = World({"gw": target}, dead_from(9.95))
    world.run(20.0)
    assert downs(world) == [first + 0.6]


def test_a_suspected_target_is_asked_every_50_ms() -> None:
    world = World({"gw": STANDBY}, dead_from(10.0))
    world.run(10.61)
    assert world.asked()[10:] == [10.0, 10.2, 10.25, 10.3, 10.35, 10.4, 10.45, 10.5, 10.55, 10.6]


def test_where_answers_take_longer_silence_does_too() -> None:
    slow = World({"gw": BUSY}, lambda question, now: 0.3 if now < 1030.0 else None)
    slow.run(40.0)
    (down,) = downs(slow)
    assert 30.7 <= down <= 30.85, "0.4 s and the time that answers take, since the first unanswered question"


def test_one_answer_to_what_was_asked_in_the_silence_ends_it_however_late() -> None:
    world = World(
        {"gw": BUSY}, lambda question, now: 0.59 if question.number == 51 else None if question.number > 51 else 0.001
    )
    world.run(10.595)
    assert downs(world) == []
    world.run(1.0)
    (down,) = downs(world)
    assert 11.2 < down < 11.3, "0.66 s, which answers may take now, and 0.4 s since 10.2 s, the next that was asked"


def test_an_answer_to_what_was_asked_before_the_silence_ends_none() -> None:
    """A packet that was long under way says nothing of the path now."""
    took = {49: 0.95, 50: 0.001}
    world = World({"gw": BUSY}, lambda question, now: 0.001 if question.number < 49 else took.get(question.number))
    world.run(12.0)
    assert downs(world) == [10.45], "since 9.85 s; the late answer, to what was asked at 9.6 s, came at 10.55 s"
    assert world.health().verdict == "down"


def test_the_first_answer_makes_a_target_up_again_from_that_moment() -> None:
    world = World({"gw": BUSY}, dead_from(10.0, 15.0))
    world.run(20.0)
    assert [(round(turn.at, 3), turn.verdict) for turn in world.turns] == [
        (1000.001, "up"),
        (1010.6, "down"),
        (1015.001, "up"),
    ]
    assert round(world.health().since, 3) == 1015.001


def test_who_never_answered_is_unknown_and_not_asked_any_faster() -> None:
    world = World({"gw": BUSY}, never)
    world.run(10.1)
    assert (world.health().verdict, len(world.log)) == ("unknown", 51)


def test_what_did_not_leave_this_host_is_not_lost() -> None:
    world = World({"gw": BUSY}, sends=lambda now: now < 1010.0)
    world.run(60.0)
    assert (world.health().verdict, world.health().loss) == ("up", 0.0)
    assert world.prober.asked["gw"] == 50


def test_a_suspected_target_to_which_nothing_leaves_any_more_keeps_nobody_busy() -> None:
    """Its interface went after a question did: too few are lost to say that it is down."""
    tried: list[float] = []

    def sends(now: float) -> bool:
        tried.append(now - 1010.0)
        assert len(tried) < 1000, "it asks again and again"
        return now < 1010.05

    world = World({"gw": BUSY}, dead_from(10.0), sends=sends)
    world.run(20.0)
    assert world.health().verdict == "up"
    assert len([at for at in tried if at > 9.0]) == 20, "one each 50 ms"


def test_what_else_wakes_the_prober_asks_a_suspected_target_no_more_often() -> None:
    def answer(question: Question, now: float) -> float | None:
        return 0.001 if question.key == "other" or now < 1010.0 else None

    world = World({"gw": BUSY, "other": Target("100.64.0.2", 0.0125)}, answer)
    world.run(11.0)
    asked = [at for at in world.asked() if 10.25 <= at <= 10.6]
    assert min(later - at for at, later in pairwise(asked)) > 0.035, "50 ms, or a quarter less where others are asked"
    (down,) = downs(world)
    assert 10.6 <= down < 10.8


@pytest.mark.parametrize("pause_s", [0.5, 5.0, 3600.0])
@pytest.mark.parametrize("listened", [True, False])
def test_a_client_that_was_stopped_takes_its_own_silence_for_nobody_elses(pause_s: float, listened: bool) -> None:
    """listened: its kernel took the answers meanwhile; a host that sleeps has lost them."""
    stops = iter((0.0,) * 7 + (pause_s,))
    world = World(
        {"gw": BUSY},
        lambda question, now: 0.05 if listened or question.number != 7 else None,
        late=lambda: next(stops, 0.0),
    )
    world.run(pause_s + 10.0)
    assert downs(world) == []


@pytest.mark.parametrize("pause_s", [0.5, 5.0, 3600.0])
def test_a_client_that_is_stopped_while_it_suspects_goes_on_suspecting_and_no_more(pause_s: float) -> None:
    """Six questions are lost within 0.4 s, and the answer to the first one after the pause comes in time."""
    world = World(
        {"gw": BUSY},
        lambda question, now: None if 51 <= question.number <= 56 else 0.1,
        late=lambda: pause_s if len(world.log) == 56 else 0.0,
    )
    world.run(10.4 + pause_s + 5.0)
    assert len(world.log) > 57
    assert downs(world) == []


def test_a_clock_that_goes_back_stops_nothing() -> None:
    time = OwnTime(100.0)
    time.plan(5.0)
    time.advance(40.0)
    assert time.seconds == 0.0
    assert time.plan(0.2) == pytest.approx(40.2)
    time.advance(40.2)
    assert time.seconds == pytest.approx(0.2)


def test_a_nudge_and_a_faster_pace_are_reasons_to_ask_at_once() -> None:
    world = World({"gw": IDLE})
    world.run(2.0)
    world.prober.nudge(["gw", "somebody else"])
    world.run(1.0)
    assert world.asked() == [0.0, 2.0]
    world.follow({"gw": BUSY})
    world.run(0.3)
    assert world.asked() == [0.0, 2.0, 3.0, 3.2]


def test_of_a_target_that_left_or_has_another_address_nothing_is_remembered() -> None:
    world = World({"gw": BUSY})
    world.run(1.0)
    world.follow({})
    assert (world.prober.health, world.prober.next_at()) == ({}, None)
    world.follow({"gw": BUSY})
    assert world.health().verdict == "unknown"
    world.run(1.0)
    world.follow({"gw": Target("100.64.0.2", 0.2)})
    assert world.health().verdict == "unknown"


def test_answers_to_other_questions_count_for_nothing() -> None:
    prober = Prober(0.0)
    prober.follow({"gw": BUSY, "other": Target("100.64.0.2", 0.2)}, 0.0)
    mine, other = prober.advance(0.0)
    assert prober.answered(mine.number, "100.64.0.2", 0.01) == "old", "asked of somebody else"
    assert prober.answered(mine.number + 7, "100.64.0.1", 0.01) == "old"
    assert prober.answered(mine.number, "100.64.0.1", 0.01) == pytest.approx(0.01)
    assert prober.answered(mine.number, "100.64.0.1", 0.02) == "doubled"
    assert prober.health["other"].verdict == "unknown"
    for turn in range(60):
        prober.next_at()
        prober.advance(turn / 5)
    assert prober.answered(other.number, "100.64.0.2", 12.0) == "old", "forgotten"


def test_an_answer_after_more_than_ten_seconds_is_to_an_old_question() -> None:
    prober = Prober(0.0)
    prober.follow({"gw": IDLE}, 0.0)
    (first,) = prober.advance(0.0)
    for second in (5.0, 10.0, 15.0):
        prober.next_at()
        prober.advance(second)
    assert prober.answered(first.number, "100.64.0.1", 15.0) == "old"
    assert prober.answered(first.number + 2, "100.64.0.1", 15.0) == 5.0


def test_two_targets_at_one_address_are_judged_by_their_own_questions() -> None:
    world = World(
        {"icmp": BUSY, "web": Target("100.64.0.1", 0.2, 443)},
        lambda question, now: 0.001 if question.target.port else None,
    )
    world.run(2.0)
    assert (world.health("icmp").verdict, world.health("web").verdict) == ("unknown", "up")


def test_round_trip_time_is_smoothed_by_an_eighth() -> None:
    world = World({"gw": BUSY}, lambda question, now: 0.04 if question.number <= 50 else 0.08)
    world.run(9.95)
    assert world.health().rtt_s == pytest.approx(0.04)
    world.run(0.2)
    assert world.health().rtt_s == pytest.approx(0.045)


def test_what_waited_for_the_end_of_an_outage_does_not_make_the_next_one_longer() -> None:
    """As packets do that wait for a link address or a session of WireGuard."""
    world = World({"gw": BUSY}, lambda question, now: max(0.001, 1015.0 - now) if 1010.0 <= now < 1015.0 else 0.001)
    world.run(16.0)
    assert world.health().rtt_s == pytest.approx(0.001)
    world.answer = never
    world.run(1.0)
    assert world.health().verdict == "down"


def test_what_waited_for_the_first_session_tells_no_round_trip_time() -> None:
    world = World({"gw": BUSY}, lambda question, now: max(0.001, 1004.3 - now))
    world.run(4.35)
    assert (world.health().verdict, world.health().rtt_s) == ("up", 0.0)
    world.run(1.0)
    assert world.health().rtt_s == pytest.approx(0.001)


def test_loss_is_the_share_of_the_last_fifty() -> None:
    world = World({"gw": BUSY}, lambda question, now: None if question.number % 5 == 4 else 0.04)
    world.run(100.0)
    assert world.health().loss == pytest.approx(0.2, abs=0.02)
    world.answer = lambda question, now: 0.04
    world.run(15.0)
    assert world.health().loss == 0.0


def test_many_targets_share_wake_ups() -> None:
    world = World({})
    for number in range(16):
        world.follow({f"gw{one}": Target(f"100.64.0.{one}", 0.2) for one in range(number + 1)})
        world.run(0.013)
    world.run(1.0)
    begun, before = world.now, len(world.log)
    world.run(10.0)
    wakes = {one.at for one in world.log[before:] if one.at > begun}
    assert len(world.log) - before >= 16 * 50
    assert len(wakes) <= 250, "16 would be 800"


@pytest.mark.parametrize("seed", range(20))
def test_two_percent_of_packets_lost_each_way_make_no_false_alarm_in_ten_minutes(seed: int) -> None:
    chance = Random(seed)
    world = World(
        {"gw": BUSY}, lambda question, now: 0.02 if chance.random() > 0.02 and chance.random() > 0.02 else None
    )
    world.run(600.0)
    assert downs(world) == []


@pytest.mark.parametrize("seed", range(20))
def test_jitter_of_100_ms_makes_no_false_alarm_in_ten_minutes(seed: int) -> None:
    chance = Random(seed)
    world = World({"gw": BUSY}, lambda question, now: 0.01 + chance.uniform(0.0, 0.1) + chance.uniform(0.0, 0.1))
    world.run(600.0)
    assert (downs(world), world.health().loss) == ([], 0.0)


# Packets

SECRET = bytes(range(32))


@pytest.mark.parametrize("address", ["100.64.0.1", "fd00:64::1"])
def test_an_answer_to_ones_own_question_is_known_by_its_seal(address: str) -> None:
    echo, stranger = Echo(SECRET, 0x1234), Echo(SECRET[::-1], 0x1234)
    asked = echo.question(address, 70_000)
    answer = bytes((0 if asked[0] == 8 else 129,)) + asked[1:]
    other = "fd00:64::2" if ":" in address else "100.64.0.2"
    cases: list[tuple[Echo, str, bytes, int | Reason]] = [
        (echo, address, answer, 70_000),
        (echo, other, answer, "forged"),
        (stranger, address, answer, "forged"),
        (Echo(SECRET, 0x1235), address, answer, "foreign"),
        (echo, address, answer[:6] + b"\0\0" + answer[8:], "forged"),
        (echo, address, answer[:-1] + b"\0", "forged"),
        (echo, address, answer + b"\0", "foreign"),
        (echo, address, asked, "malformed"),
        (echo, address, answer[:7], "malformed"),
        (echo, address, b"", "malformed"),
    ]
    assert [one.answered(source, message) for one, source, message, _ in cases] == [told for *_, told in cases]


def test_a_question_is_an_echo_request_of_its_family() -> None:
    v4, v6 = (Echo(SECRET, 0x1234).question(address, 0x10002) for address in ("100.64.0.1", "fd00:64::1"))
    assert (v4[:2], v4[4:8], len(v4)) == (b"\x08\x00", b"\x12\x34\x00\x03", 32)
    assert (v6[:2], v6[4:8], len(v6)) == (b"\x80\x00", b"\x12\x34\x00\x03", 32)
    assert checksum(v4) == 0, "the checksum of a message with its checksum"


def test_who_refuses_is_down_at_once_whatever_was_known_of_it_and_up_with_the_next_answer_g3() -> None:
    asked_at, prober = 1000.0, Prober(1000.0)
    prober.follow({"gw": BUSY}, asked_at)
    verdicts = []
    for refuses in (True, False, True, True, False):
        (question,) = prober.advance(asked_at)
        take = prober.refused if refuses else prober.answered
        take(question.number, BUSY.address, asked_at + 0.001)
        health = prober.health["gw"]
        verdicts.append((health.verdict, health.loss))
        asked_at = prober.next_at() or 0.0
    assert verdicts == [("down", 0.0), ("up", 0.0), ("down", 0.0), ("down", 0.0), ("up", 0.0)]


def test_a_refusal_from_elsewhere_or_to_an_older_question_than_the_last_answered_changes_nothing_g3() -> None:
    prober = Prober(1000.0)
    prober.follow({"gw": BUSY}, 1000.0)
    (first,) = prober.advance(1000.0)
    (second,) = prober.advance(prober.next_at() or 0.0)
    prober.refused(second.number, "100.64.0.9", 1000.201)
    prober.refused(second.number + 1, BUSY.address, 1000.201)
    verdicts = [prober.health["gw"].verdict]
    prober.answered(second.number, BUSY.address, 1000.202)
    prober.refused(second.number, BUSY.address, 1000.203)
    prober.refused(first.number, BUSY.address, 1000.204)
    assert [*verdicts, prober.health["gw"].verdict] == ["unknown", "up"]


@pytest.mark.parametrize("address", ["100.64.0.1", "fd00:64::1"])
@pytest.mark.parametrize("number", [12, 0xFFFE, 0xFFFF, 0x1FFFE])
def test_an_answer_with_a_sequence_number_that_no_question_has_is_a_refusal_g3(address: str, number: int) -> None:
    echo = Echo(b"s" * 32, 4711)
    answer = bytearray(echo.question(address, number))
    answer[0] = 129 if ":" in address else 0
    assert echo.answered(address, bytes(answer)) == number
    answer[6:8] = b"\xff\xff"
    assert echo.answered(address, bytes(answer)) == Refused(number)
    answer[6:8] = b"\x00\x01"
    assert echo.answered(address, bytes(answer)) == "forged"


def test_an_answer_that_a_clock_set_forward_dates_before_its_question_is_one_and_measures_nothing() -> None:
    """The kernel's times are of the wall clock, which jumps."""
    world = World({"gw": BUSY}, lambda question, now: 0.04)
    world.run(2.1)
    known = world.health()
    (question,) = world.prober.advance(1002.2)
    world.prober.answered(question.number, "100.64.0.1", 1002.2 - 3600.0)
    assert world.health() == known


def test_such_an_answer_makes_a_target_up_from_its_question_on() -> None:
    prober = Prober(1000.0)
    prober.follow({"gw": BUSY}, 1000.0)
    (question,) = prober.advance(1000.0)
    prober.answered(question.number, "100.64.0.1", 1000.01 - 3600.0)
    assert (prober.health["gw"].verdict, prober.health["gw"].since) == ("up", 1000.0)


def test_who_is_up_again_by_a_late_answer_and_silent_after_it_is_suspected_at_once() -> None:
    took = {10.5: 1.0}
    world = World({"gw": IDLE}, lambda question, now: took.get(round(now - 1000.0, 3)) if now >= 1010.0 else 0.001)
    world.run(11.6)
    assert [(round(turn.at - 1000.0, 3), turn.verdict) for turn in world.turns[1:]] == [(10.6, "down"), (11.5, "up")]
    world.run(3.0)
    assert [at for at in world.asked() if at > 10.65][:3] == [11.6, 11.65, 11.7]
    assert len(downs(world)) == 2


@pytest.mark.parametrize(("now", "missed_s"), [(100.2, 0.0), (100.21, 0.0), (103.2, 2.98), (97.0, 3.0)])
def test_what_nobody_listened_to_and_a_clock_that_jumps_count_as_no_silence_and_are_counted(
    now: float, missed_s: float
) -> None:
    own = OwnTime(100.0)
    own.plan(0.2)
    own.advance(now)
    assert own.missed_s == pytest.approx(missed_s)
