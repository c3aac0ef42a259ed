"""Two hosts, their devices and a lossy signal service between them, in virtual time.

The devices are a plain model of WireGuard: a reset forgets the session and sends an initiation to its endpoint; the
side that hears it learns the sender's address; a session stands one round trip later unless a side was reset meanwhile.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent.core.kernel import PeerStats
from services.agent.core.paths.pathbook import PathBook, Reset, Send
from shared.events.signals import Candidates

STEP_S = 0.05
WALL = 1_700_000_000.0
KEEPALIVE_S = 25.0
RENEWED_S = 120.0


class Host:
    def __init__(self, name: str, key: str, endpoints: list[str]) -> None:
        self.name, self.key, self.endpoints = name, key, endpoints
        self.book = PathBook(key)
        self.other: Host
        self.endpoint = ""
        self.session_at = 0.0
        self.life = 0
        """Grows with each reset, so that a handshake of a former life comes to nothing."""
        self.received = 0
        self.resets: list[float] = []

    def stats(self) -> dict[str, PeerStats]:
        one = PeerStats(endpoint=self.endpoint, last_handshake=self.session_at, rx_bytes=self.received, tx_bytes=0)
        return {self.other.key: one}


class Network:
    """reachable: endpoints that packets get to. loss: of signals, until `quiet_at`. round_trip_s: of packets."""

    def __init__(
        self, *, reachable: set[str], left: list[str], right: list[str], loss: float, seed: int, round_trip_s: float
    ) -> None:
        self.left, self.right = Host("left", "A", left), Host("right", "B", right)
        self.left.other, self.right.other = self.right, self.left
        self.reachable, self.loss, self.round_trip_s = reachable, loss, round_trip_s
        self.chance = random.Random(seed)
        self.now = 0.0
        self.signals: list[tuple[float, Host, Candidates]] = []
        self.handshakes: list[tuple[float, Host, int, int]] = []

    def start(self, host: Host) -> None:
        host.book.set_local(host.endpoints, self.now)
        host.book.set_peers({host.other.name: host.other.key}, self.now)

    def run(self, until: float, started: dict[str, float], quiet_at: float) -> None:
        while self.now < until:
            self.now = round(self.now + STEP_S, 2)
            for host in (self.left, self.right):
                if started[host.name] == self.now:
                    self.start(host)
            self.deliver(quiet_at)
            for host in (self.left, self.right):
                if started[host.name] <= self.now:
                    self.turn(host)

    def deliver(self, quiet_at: float) -> None:
        due, self.signals = (
            [one for one in self.signals if one[0] <= self.now],
            [one for one in self.signals if one[0] > self.now],
        )
        for _, host, candidates in due:
            if self.now >= quiet_at or self.chance.random() >= self.loss:
                host.book.receive(host.other.name, candidates, self.now)
        for one in [one for one in self.handshakes if one[0] <= self.now]:
            self.handshakes.remove(one)
            _, host, life, others_life = one
            if (host.life, host.other.life) == (life, others_life):
                host.session_at = host.other.session_at = WALL + self.now
                host.received += 100
                host.other.received += 100

    def turn(self, host: Host) -> None:
        if host.session_at and self.now % KEEPALIVE_S < STEP_S and host.other.session_at:
            host.received += 32
            if WALL + self.now - host.session_at >= RENEWED_S:
                host.session_at = WALL + self.now
        host.book.observe(host.stats(), self.now, WALL + self.now)
        host.book.advance(self.now)
        for action in host.book.take(self.now):
            match action:
                case Reset():
                    self.reset(host)
                case Send():
                    told = Candidates(
                        session=host.name,
                        generation=host.book.generation,
                        endpoints=tuple(host.book.local_endpoints),
                        answer_wanted=action.answer_wanted,
                        sent_at=WALL + self.now,
                    )
                    self.signals.append((self.now + 0.05, host.other, told))

    def reset(self, host: Host) -> None:
        host.resets.append(self.now)
        host.life += 1
        host.session_at, host.received = 0.0, 0
        host.endpoint = host.book.endpoints()[host.other.name]
        if host.endpoint in self.reachable and host.other.book.statuses():
            host.other.endpoint = f"{host.name}:9"  # WireGuard follows the packet, wherever it came from
            self.handshakes.append((self.now + self.round_trip_s, host, host.life, host.other.life))


LEFT = ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]
RIGHT = ["198.51.100.1:1", "198.51.100.2:1"]


@settings(max_examples=40)
@given(
    reachable=st.sets(st.sampled_from(LEFT + RIGHT), min_size=1),
    loss=st.sampled_from((0.0, 0.5, 1.0)),
    started=st.tuples(st.sampled_from((0.05, 1.0, 20.0)), st.sampled_from((0.05, 0.5, 3.0))),
    round_trip_s=st.sampled_from((0.05, 0.3, 1.0)),
    seed=st.integers(0, 9),
)
def test_two_hosts_of_which_one_can_reach_the_other_soon_have_a_session_and_keep_it(
    reachable: set[str], loss: float, started: tuple[float, float], round_trip_s: float, seed: int
) -> None:
    network = Network(reachable=reachable, left=LEFT, right=RIGHT, loss=loss, seed=seed, round_trip_s=round_trip_s)
    network.run(120.0, {"left": started[0], "right": started[1]}, quiet_at=60.0)
    assert network.left.book.connected() == {"right"}
    assert network.right.book.connected() == {"left"}
    before = len(network.left.resets), len(network.right.resets)
    network.run(400.0, {"left": 0.0, "right": 0.0}, quiet_at=60.0)
    assert (len(network.left.resets), len(network.right.resets)) == before, "a standing session is left alone"


def test_where_the_first_endpoint_works_the_session_stands_within_a_second() -> None:
    network = Network(reachable={*LEFT, *RIGHT}, left=LEFT, right=RIGHT, loss=0.0, seed=0, round_trip_s=0.05)
    network.run(1.0, {"left": 0.05, "right": 0.05}, quiet_at=0.0)
    assert network.left.book.connected() | network.right.book.connected() == {"left", "right"}


def test_hosts_that_cannot_reach_each_other_try_less_and_less_often() -> None:
    network = Network(reachable=set(), left=LEFT, right=RIGHT, loss=0.0, seed=0, round_trip_s=0.05)
    network.run(600.0, {"left": 0.05, "right": 0.05}, quiet_at=0.0)
    last_minutes = [at for at in network.left.resets if at > 480.0]
    assert 4 <= len(last_minutes) <= 8
