"""Who carries packets of people is told by counters; what the agent and WireGuard send themselves is left out."""

from collections.abc import Collection
from typing import NamedTuple

import pytest

from services.agent.core.ha.paces import is_news, is_urgent, targets
from services.agent.core.ha.probing import Target
from services.agent.core.ha.standing import Health, Probed
from services.agent.core.ha.traffic import Look, Traffic, probe_bytes
from services.agent.core.kernel import PeerStats


class Told(NamedTuple):
    """What the device says: bytes sent, time of the handshake, endpoint; and how many probes were sent."""

    tx_bytes: int
    probes: int = 0
    handshake: float = 1.0
    endpoint: str = "192.0.2.1:51820"


def look(told: Told) -> Look:
    stats = PeerStats(endpoint=told.endpoint, last_handshake=told.handshake, rx_bytes=0, tx_bytes=told.tx_bytes)
    return Look(stats=stats, probes=told.probes, probe_bytes=96)


def seen(*each: Told, clients: Collection[str] = ()) -> Traffic:
    """One look a second."""
    traffic = Traffic()
    for second, told in enumerate(each):
        traffic.look({"gw": look(told)}, float(second), clients=clients)
    return traffic


def test_a_probe_is_what_the_device_counts_for_it() -> None:
    """tests/contract/agent_drivers/test_probes.py holds it to the device."""
    assert (probe_bytes("100.64.0.1"), probe_bytes("fd00:64::1")) == (96, 112)


@pytest.mark.parametrize(
    ("each", "carries"),
    [
        ((Told(0), Told(0)), False),
        ((Told(5000), Told(5000)), False),
        ((Told(0), Told(480, 5)), False),
        ((Told(0), Told(480, 5), Told(560, 5)), True),
        ((Told(0), Told(32)), False),
        ((Told(0), Told(80)), True),
        ((Told(0), Told(512, 5, handshake=2.0)), False),
        ((Told(0), Told(480 + 420 + 80, 5, handshake=2.0)), True),
        ((Told(0), Told(384, 5), Told(960, 10)), False),
        ((Told(9000, 90), Told(0, 90)), False),
    ],
    ids=[
        "nothing is sent",
        "nothing more is sent",
        "probes alone",
        "an empty segment of TCP more",
        "a keepalive",
        "an empty segment of TCP alone",
        "probes and a handshake",
        "a segment beside a handshake",
        "a probe that is counted later",
        "the device was made anew",
    ],
)
def test_somebody_sends_when_there_is_more_than_the_host_itself_says(each: tuple[Told, ...], carries: bool) -> None:
    assert seen(*each).carrying == ({"gw"} if carries else set())


def test_a_pause_of_ten_seconds_is_none() -> None:
    traffic = seen(Told(0), Told(1000), *[Told(1000)] * 10)
    assert traffic.carrying == {"gw"}
    traffic.look({"gw": look(Told(1000))}, 12.0, clients=())
    assert traffic.carrying == frozenset()


def test_answers_to_a_peer_that_probes_this_host_in_turn_are_nobodys_packets() -> None:
    five = [Told(5 * 96 * second) for second in range(5)]
    assert seen(*five, clients=("gw",)).carrying == frozenset()
    assert seen(*five, clients=("another",)).carrying == {"gw"}
    assert seen(*five, Told(4 * 480 + 1000), clients=("gw",)).carrying == {"gw"}


def test_quiet_traffic_to_a_peer_that_may_not_probe_this_host_is_somebodys_packets() -> None:
    """As where this host serves routes to others than those whose routes it uses."""
    quiet = [Told(200 * second) for second in range(5)]
    assert seen(*quiet, clients=("another",)).carrying == {"gw"}


def test_probes_that_never_were_counted_hide_no_more_than_two_of_somebodys_packets() -> None:
    """As where WireGuard has no session, and the device drops what it is given."""
    assert seen(Told(0), Told(0, 100), Told(96 + 96 + 80 + 32, 100)).carrying == {"gw"}


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        (Told(0), False),
        (Told(0, handshake=2.0), True),
        (Told(0, endpoint="192.0.2.2:1"), True),
    ],
)
def test_another_endpoint_and_another_session_are_another_path(now: Told, moved: bool) -> None:
    assert seen(Told(0), now).moved == ({"gw"} if moved else set())
    assert seen(Told(0), now, now).moved == frozenset()


ONE = Probed(public_key="k1", address="100.64.0.1", role="in use")
TWO = Probed(public_key="k2", address="100.64.0.2", role="standby")
THREE = Probed(public_key="k3", address="100.64.0.3", role="in use")
PROBED = {"one": ONE, "two": TWO, "three": THREE}


@pytest.mark.parametrize(
    ("carrying", "paces"),
    [
        (set[str](), {"one": 5.0, "two": 5.0, "three": 5.0}),
        ({"one"}, {"one": 0.2, "two": 1.0, "three": 5.0}),
        ({"two"}, {"one": 5.0, "two": 5.0, "three": 5.0}),
    ],
)
def test_who_carries_is_asked_every_200_ms_a_standby_each_second_and_idle_ones_each_five_g2(
    carrying: set[str], paces: dict[str, float]
) -> None:
    found = targets(PROBED, frozenset(("k1", "k2", "k3")), frozenset(carrying))
    assert {key: one.pace_s for key, one in found.items()} == paces


def test_only_who_has_a_session_is_asked() -> None:
    assert targets(PROBED, frozenset(("k2",)), frozenset()) == {"two": Target("100.64.0.2", 5.0)}


UP = Health(verdict="up", since=1.0, rtt_s=0.02, loss=0.0)


@pytest.mark.parametrize(
    ("now", "urgent", "news"),
    [
        (UP, False, False),
        (Health(verdict="up", since=1.0, rtt_s=0.0219, loss=0.01), False, False),
        (Health(verdict="up", since=1.0, rtt_s=0.0231, loss=0.0), False, True),
        (Health(verdict="up", since=1.0, rtt_s=0.02, loss=0.02), False, True),
        (Health(verdict="down", since=2.0, rtt_s=0.02, loss=0.0), True, False),
    ],
)
def test_another_verdict_is_told_at_once_and_other_figures_when_one_can_see_it(
    now: Health, urgent: bool, news: bool
) -> None:
    assert (is_urgent({"gw": UP}, {"gw": now}), is_news({"gw": UP}, {"gw": now})) == (urgent, news)


def test_another_routing_peer_is_told_at_once() -> None:
    assert is_urgent({"gw": UP}, {})
    assert is_urgent({}, {"gw": Health()})
