"""How peers are reached: tries, roaming, silence, and who is told what."""

import pytest

from services.agent.core.kernel import PeerStats
from services.agent.core.paths.candidates import ranked, split
from services.agent.core.paths.introduction import Introduction
from services.agent.core.paths.path import TRANSITIONS, Event, Path, State
from services.agent.core.paths.pathbook import PathBook, Reset, Send
from shared.events.signals import Candidates

WALL = 1_700_000_000.0
LOW, HIGH = "A" * 43 + "=", "z" * 43 + "="
"""Keys: who has HIGH begins."""
FIRST, SECOND = "192.0.2.1:51820", "192.0.2.2:51820"


def offer(*endpoints: str, session: str = "0000000001", generation: int = 1, answer: bool = False) -> Candidates:
    return Candidates(session=session, generation=generation, endpoints=endpoints, answer_wanted=answer, sent_at=WALL)


def stats(handshake: float = 0.0, endpoint: str = "", rx: int = 0) -> PeerStats:
    return PeerStats(endpoint=endpoint, last_handshake=handshake, rx_bytes=rx, tx_bytes=0)


class World:
    """One host with one peer "p", at second 0."""

    def __init__(self, *, controller: bool = True) -> None:
        self.peer_key = LOW if controller else HIGH
        self.book = PathBook(HIGH if controller else LOW)
        self.book.set_local(["198.51.100.1:51820"], 0.0)
        self.book.set_peers({"p": self.peer_key}, 0.0)
        self.device: dict[str, PeerStats] = {self.peer_key: stats()}
        assert self.taken(0.0) == [Send("p", True)]

    def taken(self, now: float) -> list[Send | Reset]:
        return list(self.book.take(now))

    def resets(self, now: float) -> int:
        return sum(isinstance(action, Reset) for action in self.book.take(now))

    def at(self, now: float) -> str:
        """The endpoint to program after everything due at this second."""
        self.book.observe(self.device, now, WALL + now)
        self.book.advance(now)
        return self.book.endpoints().get("p", "")

    def shake_hands(self, now: float, endpoint: str = FIRST) -> None:
        self.device[self.peer_key] = stats(WALL + now, endpoint, rx=100)
        self.book.observe(self.device, now, WALL + now)

    @property
    def word(self) -> str:
        return self.book.statuses()["p"].word


def test_an_unknown_pair_of_state_and_event_is_a_fault() -> None:
    assert (State.IDLE, Event.EXHAUSTED) not in TRANSITIONS
    assert {state for state, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values())


def test_the_side_with_the_greater_key_begins_at_once() -> None:
    world = World(controller=True)
    world.book.receive("p", offer(FIRST), 1.0)
    assert world.book.endpoints() == {"p": FIRST}
    assert world.resets(1.0) == 1
    assert world.word == "Connecting"


def test_the_other_side_waits_half_a_second_before_it_sets_an_endpoint() -> None:
    world = World(controller=False)
    world.book.receive("p", offer(FIRST), 1.0)
    assert world.book.endpoints() == {}
    assert world.book.next_deadline() == 1.5
    assert world.at(1.4) == ""
    assert world.resets(1.4) == 0
    assert world.at(1.5) == FIRST
    assert world.resets(1.5) == 1


def test_the_other_side_follows_a_handshake_that_came_meanwhile() -> None:
    world = World(controller=False)
    world.book.receive("p", offer(FIRST), 1.0)
    world.shake_hands(1.2, "203.0.113.9:4711")
    assert world.at(1.5) == ""
    assert world.word == "Connected"
    assert world.book.statuses()["p"].endpoint == "203.0.113.9:4711"
    assert world.resets(1.5) == 0


def test_each_endpoint_is_tried_for_two_seconds_with_a_reset_and_then_there_is_a_rest_that_doubles() -> None:
    world = World()
    world.book.receive("p", offer(FIRST, SECOND), 0.0)
    timeline = [(now, world.at(now), world.resets(now)) for now in (0.0, 1.9, 2.0, 3.9, 4.0, 5.9, 6.0, 8.0, 10.0, 14.0)]
    assert timeline == [
        (0.0, FIRST, 1),
        (1.9, FIRST, 0),
        (2.0, SECOND, 1),
        (3.9, SECOND, 0),
        (4.0, "", 0),
        (5.9, "", 0),
        (6.0, FIRST, 1),
        (8.0, SECOND, 1),
        (10.0, "", 0),
        (14.0, FIRST, 1),
    ]


def test_the_rest_between_rounds_is_at_most_half_a_minute() -> None:
    path, now, rests = Path(controller=True, now=0.0), 0.0, []
    path.offer((FIRST,), now)
    for _ in range(7):
        now += 2.0
        path.advance(now)
        assert (path.state, path.endpoint) == (State.RESTING, "")
        deadline = path.next_deadline()
        assert deadline is not None
        rests.append(deadline - now)
        now = deadline
        path.advance(now)
        assert (path.state, path.endpoint) == (State.TRYING, FIRST)
    assert rests == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_fruitless_round_asks_the_peer_again() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.taken(0.0)
    world.at(2.0)
    assert world.taken(2.0) == [Send("p", True)]


@pytest.mark.parametrize(("after", "tried"), [(2.5, ""), (59.0, ""), (61.5, FIRST)])
def test_a_peer_that_was_silent_for_a_minute_is_back_and_tried_at_once(after: float, tried: str) -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    for now in (2.0, 4.0, 6.0, 10.0, 12.0, 20.0, 22.0, 38.0, 40.0):
        world.at(now)
    assert world.book.receive("p", offer(FIRST), max(after, 40.0))
    assert world.at(max(after, 40.0)) == tried


def test_new_endpoints_during_a_rest_are_tried_at_once() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.at(2.0)
    world.book.receive("p", offer(SECOND, generation=2), 2.5)
    assert world.at(2.5) == SECOND


def test_the_same_offer_again_does_not_disturb_a_try() -> None:
    world = World()
    world.book.receive("p", offer(FIRST, SECOND), 0.0)
    world.at(2.0)
    world.resets(2.0)
    world.book.receive("p", offer(FIRST, SECOND, generation=2), 2.5)
    assert world.at(2.5) == SECOND
    assert world.resets(2.5) == 0


def test_other_endpoints_that_come_right_after_a_handshake_went_out_wait_until_the_peer_takes_another() -> None:
    world = World()
    world.book.receive("p", offer(SECOND, session="0000000000"), 1.0)
    assert world.resets(1.0) == 1
    world.book.receive("p", offer(FIRST, SECOND), 1.005)
    assert (world.at(1.005), world.resets(1.005)) == (SECOND, 0)
    assert world.book.next_deadline() == pytest.approx(1.05)
    assert (world.at(1.051), world.resets(1.051)) == (FIRST, 1)
    assert (world.at(3.06), world.resets(3.06)) == (SECOND, 1)


def test_a_handshake_that_is_answered_makes_other_endpoints_needless() -> None:
    world = World()
    world.book.receive("p", offer(SECOND, session="0000000000"), 1.0)
    world.book.receive("p", offer(FIRST), 1.005)
    world.shake_hands(1.01, SECOND)
    assert world.word == "Connected"
    assert world.at(1.06) == ""
    assert world.resets(1.06) == 1, "the one of the first try"


@pytest.mark.parametrize(
    ("late", "used"),
    [
        (offer("192.0.2.9:1", generation=1), False),
        (offer("192.0.2.9:1", generation=2), True),
        (offer("192.0.2.9:1", generation=3), True),
        (offer("192.0.2.9:1", session="0000000000", generation=9), False),
        (offer("192.0.2.9:1", session="0000000002", generation=1), True),
    ],
)
def test_older_generations_and_replaced_sessions_change_nothing(late: Candidates, used: bool) -> None:
    world = World()
    world.book.receive("p", offer(SECOND, session="0000000000", generation=5), 0.0)
    world.book.receive("p", offer(FIRST, generation=2), 0.0)
    assert world.book.receive("p", late, 1.0) is used
    assert world.at(1.0) == ("192.0.2.9:1" if used else FIRST)


def test_a_stranger_is_not_heard() -> None:
    assert not World().book.receive("stranger", offer(FIRST), 0.0)


def test_a_question_is_answered_once_and_without_a_question() -> None:
    world = World()
    world.book.receive("p", offer(FIRST, answer=True), 1.0)
    assert [action for action in world.taken(1.0) if isinstance(action, Send)] == [Send("p", False)]
    assert [action for action in world.taken(9.0) if isinstance(action, Send)] == []


def test_a_question_is_repeated_less_and_less_often_until_it_is_answered() -> None:
    world, sent = World(), []
    for tenth in range(1, 1000):
        sent += [tenth / 10 for action in world.taken(tenth / 10) if isinstance(action, Send)]
    assert sent == [1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    world.book.receive("p", offer(FIRST), 100.0)
    assert [action for action in world.taken(200.0) if isinstance(action, Send)] == []


def test_new_endpoints_of_ours_are_told_everyone_without_a_question() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.taken(0.0)
    assert world.book.generation == 1
    world.book.set_local(["198.51.100.1:51820"], 1.0)
    assert world.taken(1.0) == []
    world.book.set_local(["198.51.100.7:51820"], 2.0)
    assert world.book.generation == 2
    assert world.taken(2.0) == [Send("p", False)]


def test_after_a_reconnect_those_who_are_not_connected_are_asked_again() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.taken(0.0)
    world.book.reconnected(1.0)
    assert world.taken(1.0) == [Send("p", True)]
    world.shake_hands(1.5)
    world.book.reconnected(2.0)
    assert world.taken(2.0) == []


def test_a_session_counts_from_its_handshake_and_leaves_the_endpoint_to_wireguard() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.shake_hands(0.1)
    assert world.book.connected() == {"p"}
    assert world.book.endpoints() == {}
    assert world.book.stats_interval_s == 1.0
    status = world.book.statuses()["p"]
    assert (status.word, status.endpoint, status.rx_bytes, status.changed_at) == ("Connected", FIRST, 100, 0.1)


def test_a_handshake_from_before_the_try_does_not_count() -> None:
    world = World()
    world.device[world.peer_key] = stats(WALL - 500.0, SECOND)
    world.book.observe(world.device, 0.0, WALL)
    world.book.receive("p", offer(FIRST), 0.0)
    assert world.at(1.0) == FIRST
    assert world.word == "Connecting"
    world.shake_hands(1.1)
    assert world.word == "Connected"


def test_a_session_that_outlived_the_agent_is_adopted() -> None:
    book = PathBook(HIGH)
    book.set_peers({"p": LOW}, 0.0)
    book.observe({LOW: stats(WALL - 100.0, FIRST, rx=5000)}, 0.0, WALL)
    assert book.connected() == {"p"}
    assert [action for action in book.take(0.0) if isinstance(action, Reset)] == []


def test_an_endpoint_the_peer_began_from_itself_is_kept_instead_of_the_one_that_is_tried() -> None:
    world = World()
    world.book.receive("p", offer(FIRST, SECOND), 0.0)
    world.device[world.peer_key] = stats(0.0, FIRST)
    assert world.at(0.5) == FIRST
    world.device[world.peer_key] = stats(0.0, "203.0.113.9:4711")
    assert world.at(1.0) == "203.0.113.9:4711"
    assert world.at(2.5) == "203.0.113.9:4711", "it gets its own two seconds"
    assert world.at(3.0) == SECOND


def test_a_peer_that_keeps_sending_stays_connected() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.shake_hands(0.0)
    for second in range(25, 600, 25):
        renewed = second - second % 125
        world.device[world.peer_key] = stats(WALL + renewed, FIRST, rx=second)
        world.at(float(second))
        assert world.word == "Connected"


@pytest.mark.parametrize(
    ("last", "lost_at"),
    [
        (lambda second: stats(WALL, FIRST, rx=100), 60.0),
        (lambda second: stats(WALL, FIRST, rx=100 + second), 195.0),
    ],
    ids=["silent", "never renewed"],
)
def test_silence_or_a_session_that_is_never_renewed_ends_the_connection(last: object, lost_at: float) -> None:
    world = World()
    world.book.receive("p", offer(FIRST, SECOND), 0.0)
    world.shake_hands(0.0)
    world.taken(0.0)
    second = 0
    while world.word == "Connected":
        second += 5
        world.device[world.peer_key] = last(second)  # type: ignore[operator]
        world.at(float(second))
    assert second == lost_at
    assert world.book.endpoints() == {"p": FIRST}
    assert world.taken(lost_at) == [Reset("p", world.peer_key), Send("p", True)]


@pytest.mark.parametrize("gone", [{}, {LOW: stats()}], ids=["peer removed", "session gone"])
def test_a_peer_that_someone_took_off_the_device_is_tried_again_at_once(gone: dict[str, PeerStats]) -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.shake_hands(0.0)
    world.device = gone
    assert world.at(1.0) == FIRST
    assert world.word == "Connecting"


def test_a_lost_peer_without_any_endpoint_is_idle() -> None:
    world = World()
    world.shake_hands(0.0)
    assert world.word == "Connected"
    world.device = {}
    assert world.at(1.0) == ""
    assert world.word == "Idle"


def test_a_peer_that_tells_no_endpoints_is_idle_until_it_does() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.book.receive("p", offer(generation=2), 0.5)
    assert (world.at(0.5), world.word) == ("", "Idle")
    world.book.receive("p", offer(FIRST, generation=3), 0.6)
    assert world.at(0.6) == FIRST


def test_the_device_is_read_often_only_while_new_endpoints_are_tried_for_the_first_time() -> None:
    world = World()
    assert world.book.stats_interval_s == 1.0
    world.book.receive("p", offer(FIRST), 0.0)
    assert world.book.stats_interval_s == 0.1
    world.at(2.0)
    world.at(4.0)
    assert world.book.stats_interval_s == 1.0


def test_a_peer_with_another_key_is_another_peer() -> None:
    world = World()
    world.book.receive("p", offer(FIRST), 0.0)
    world.book.set_peers({"p": HIGH}, 1.0)
    assert world.book.endpoints() == {}
    world.book.set_peers({}, 2.0)
    assert (world.book.statuses(), world.book.next_deadline()) == ({}, None)


def test_endpoints_on_a_network_of_ours_come_first_and_families_we_lack_last() -> None:
    theirs = [
        "[2001:db8::7]:1",
        "203.0.113.7:1",
        "192.0.2.7:1",
        "100.64.0.7:1",
        "127.0.0.1:1",
        "x:1",
        "192.0.2.1:51820",
    ]
    found = ranked(theirs, local=["192.0.2.1/24", "10.0.0.1/8"], overlay=["100.64.0.0/16"], own=["192.0.2.1:51820"])
    assert found == ("192.0.2.7:1", "203.0.113.7:1", "[2001:db8::7]:1")


@pytest.mark.parametrize(
    "text",
    ["100.64.0.7", "::ffff:100.64.0.7", "::ffff:127.0.0.1", "::1", "fe80::7", "169.254.0.7", "224.0.0.1", "0.0.0.0"],
)
def test_a_peer_cannot_make_this_host_send_to_itself_or_into_the_tunnel(text: str) -> None:
    told = [f"[{text}]:1" if ":" in text else f"{text}:1"]
    assert ranked(told, local=["192.0.2.1/24", "2001:db8::1/64"], overlay=["100.64.0.0/16", "fd00:64::/64"]) == ()


def test_of_a_flood_of_endpoints_only_the_first_are_looked_at() -> None:
    assert len(ranked([f"192.0.2.1:{port}" for port in range(1, 1000)], local=[], overlay=[])) == 16


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.1:51820", ("192.0.2.1", 51820)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("2001:db8::1:1", None),
        ("[192.0.2.1]:1", None),
        ("192.0.2.1:0", None),
        ("192.0.2.1:65536", None),
        ("192.0.2.1:", None),
        ("192.0.2.1:١", None),
        ("[fe80::1%eth0]:1", None),
        ("host.example:1", None),
        ("", None),
    ],
)
def test_an_endpoint_is_an_address_and_a_port(text: str, parts: tuple[str, int] | None) -> None:
    assert split(text) == parts


def test_telling_goes_with_an_open_question() -> None:
    introduction = Introduction(0.0)
    assert introduction.take(0.0) is True
    introduction.tell(0.5)
    assert introduction.take(0.5) is True
    introduction.settled()
    assert introduction.take(99.0) is None
    introduction.tell(100.0)
    introduction.settled()
    assert introduction.take(100.0) is False


THIRD = "203.0.113.3:51820"


def connected_at(endpoint: str) -> World:
    """Connected with a peer that told where it is."""
    world = World()
    world.book.receive("p", offer(FIRST, generation=1), 0.0)
    world.taken(0.0)
    world.shake_hands(0.1, endpoint)
    return world


def test_a_peer_that_left_its_endpoint_is_followed_without_another_handshake() -> None:
    world = connected_at(FIRST)
    world.book.receive("p", offer(THIRD, generation=2), 1.0)
    assert world.at(1.0) == THIRD
    assert (world.word, world.resets(1.0)) == ("Connected", 0)
    world.device[world.peer_key] = stats(WALL + 0.1, THIRD, rx=200)
    assert world.at(1.1) == ""


@pytest.mark.parametrize("endpoint", [THIRD, "198.51.100.99:4711"])
def test_an_endpoint_that_the_peer_did_not_leave_is_left_to_wireguard(endpoint: str) -> None:
    """It was heard from there already, or is reached through a NAT."""
    world = connected_at(endpoint)
    world.book.receive("p", offer(THIRD, generation=2), 1.0)
    assert world.at(1.0) == ""


def test_a_peer_that_tells_of_no_other_place_is_left_where_it_is() -> None:
    world = connected_at(FIRST)
    world.book.receive("p", offer(generation=2), 1.0)
    assert world.at(1.0) == ""


def test_a_session_over_a_family_that_this_host_lost_is_begun_anew_over_the_other_one() -> None:
    world, sixth = World(), "[2001:db8::9]:51820"
    world.book.set_local(["[2001:db8::1]:1", "192.0.2.9:1"], 0.0, addresses=["2001:db8::1/64", "192.0.2.9/24"])
    world.book.receive("p", offer(sixth, THIRD), 0.0)
    world.taken(0.0)
    world.shake_hands(0.1, sixth)
    world.book.set_local(["192.0.2.9:1"], 1.0, addresses=["192.0.2.9/24"])
    assert world.book.endpoints() == {"p": THIRD}
    assert world.resets(1.0) == 1


def test_a_session_is_kept_while_this_host_has_no_address_at_all() -> None:
    world = connected_at(FIRST)
    world.book.set_local([], 1.0, addresses=[])
    assert (world.word, world.resets(1.0)) == ("Connected", 0)


def test_what_found_no_bus_is_told_once_there_is_one() -> None:
    world = connected_at(FIRST)
    world.book.set_local(["198.51.100.7:51820"], 1.0)
    assert world.taken(1.0) == [Send("p", False)]
    world.book.unsent("p")
    assert world.taken(2.0) == []
    for _ in range(2):
        world.book.reconnected(3.0)
    assert world.taken(3.0) == [Send("p", False)]
    world.book.reconnected(4.0)
    assert world.taken(4.0) == []
