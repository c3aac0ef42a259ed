"""Which probe targets of served routes are asked, how often, and what is believed of their answers (G3, G4)."""

from ipaddress import ip_network

import pytest

from services.agent.core.ha.probing import Target
from services.agent.core.ha.standing import Health, Verdict
from services.agent.core.ha.targets import Verdicts, targets, until_known, unusable, verdict_of
from shared.events.documents import Probe

OVERLAY = (ip_network("100.64.0.0/16"),)
ICMP = Probe(kind="icmp", address="10.9.0.2")


def tcp(port: int = 443, interval_ms: int = 200) -> Probe:
    return Probe(kind="tcp", address="10.9.0.2", port=port, interval_ms=interval_ms)


@pytest.mark.parametrize(
    ("probe", "network", "reason"),
    [
        (ICMP, "10.9.0.0/24", ""),
        (tcp(), "10.9.0.0/24", ""),
        (Probe(kind="icmp", address="1.1.1.1"), "0.0.0.0/0", ""),
        (Probe(kind="icmp", address="fd00:9::2"), "fd00:9::/64", ""),
        (ICMP, "10.8.0.0/16", "its probe target 10.9.0.2 is not in 10.8.0.0/16"),
        (Probe(kind="icmp", address="fd00:9::2"), "10.9.0.0/24", "its probe target fd00:9::2 is not in 10.9.0.0/24"),
        (Probe(kind="icmp", address="printer"), "10.9.0.0/24", "its probe target 'printer' is no address"),
        (
            Probe(kind="icmp", address="100.64.0.9"),
            "0.0.0.0/0",
            "its probe target cannot be asked: 100.64.0.9/32 lies inside the overlay 100.64.0.0/16",
        ),
        (
            Probe(kind="icmp", address="127.0.0.1"),
            "0.0.0.0/0",
            "its probe target cannot be asked: 127.0.0.1/32 is loopback",
        ),
        (tcp(port=0), "10.9.0.0/24", "its probe target 10.9.0.2 has no port 0"),
        (tcp(port=65536), "10.9.0.0/24", "its probe target 10.9.0.2 has no port 65536"),
        (tcp(interval_ms=1), "10.9.0.0/24", "its probe target cannot be asked every 1 ms"),
        (tcp(interval_ms=60_001), "10.9.0.0/24", "its probe target cannot be asked every 60001 ms"),
    ],
)
def test_a_probe_target_that_makes_no_sense_is_not_asked_and_says_why(probe: Probe, network: str, reason: str) -> None:
    assert unusable(probe, (ip_network(network),), OVERLAY) == reason


def test_a_target_that_routes_have_in_common_is_asked_once_as_often_as_one_of_them_wants() -> None:
    asked = targets([ICMP, tcp(interval_ms=1000), tcp(interval_ms=300), tcp(port=80)])
    assert sorted(asked.values(), key=lambda one: one.port) == [
        Target("10.9.0.2", 0.2, 0),
        Target("10.9.0.2", 0.2, 80),
        Target("10.9.0.2", 0.3, 443),
    ]


def test_many_targets_are_asked_less_often() -> None:
    many = [Probe(kind="icmp", address=f"10.9.{number // 250}.{number % 250}") for number in range(1000)]
    assert {one.pace_s for one in targets(many).values()} == {2.0}


def test_a_target_is_asked_twice_a_second_until_there_is_a_verdict_on_it_g3() -> None:
    """One lost packet at the start would else withdraw a route until the next question, as much as a minute."""
    asked = targets([tcp(interval_ms=60_000), ICMP])
    slow, fast = sorted(asked, key=lambda key: -asked[key].pace_s)

    def paces(verdicts: dict[str, Verdict]) -> tuple[float, float]:
        found = until_known(asked, verdicts)
        return found[slow].pace_s, found[fast].pace_s

    assert paces({}) == (0.5, 0.2)
    assert paces({slow: "unknown", fast: "unknown"}) == (0.5, 0.2)
    assert paces({slow: "up"}) == (60.0, 0.2)
    assert paces({slow: "down"}) == (60.0, 0.2)


def test_many_new_targets_are_asked_no_more_often_than_that_many_can_be() -> None:
    many = targets(Probe(kind="icmp", address=f"10.9.{number // 250}.{number % 250}") for number in range(1000))
    assert {one.pace_s for one in until_known(many, {}).values()} == {2.0}


@pytest.mark.parametrize(
    ("health", "now", "verdict"),
    [
        (Health(), 1.0, "unknown"),
        (Health(verdict="unknown", since=1.0, loss=1.0), 2.9, "unknown"),
        (Health(verdict="unknown", since=1.0, loss=1.0), 3.0, "down"),
        (Health(verdict="unknown", since=1.0, loss=0.0), 90.0, "unknown"),
        (Health(verdict="up", since=1.0), 1.0, "up"),
        (Health(verdict="down", since=1.0, loss=0.1), 1.0, "down"),
    ],
)
def test_a_target_is_down_once_it_is_silent_and_also_when_it_never_answered_g3(
    health: Health, now: float, verdict: Verdict
) -> None:
    assert Verdicts().judge({"t": health}, now) == {"t": verdict}


def test_a_target_that_was_silent_is_up_after_it_has_answered_for_three_seconds_g4() -> None:
    verdicts = Verdicts()

    def judged(verdict: Verdict, since: float, now: float) -> Verdict:
        return verdicts.judge({"t": Health(verdict=verdict, since=since)}, now)["t"]

    assert judged("up", 0.0, 1.0) == "up"
    assert judged("down", 2.0, 2.0) == "down"
    assert judged("up", 3.0, 3.1) == "down"
    assert verdicts.next_at() == 6.0
    assert judged("down", 5.0, 5.0) == "down"
    assert judged("up", 5.5, 8.4) == "down"
    assert judged("up", 5.5, 8.5) == "up"
    assert verdicts.next_at() is None
    assert verdicts.judge({}, 9.0) == {}
    assert judged("up", 9.0, 9.0) == "up"


def test_the_verdict_of_a_probe_is_that_of_its_target() -> None:
    [key] = targets([tcp()])
    assert verdict_of(tcp(interval_ms=5000), {key: "down"}) == "down"
    assert verdict_of(ICMP, {key: "down"}) == "unknown"
