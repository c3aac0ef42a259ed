"""Which moves wait, for how long, and what they wait for."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.ha.connections import carriers
from services.agent.core.ha.flows import Flow, FlowState, Socket, is_busy
from services.agent.core.ha.handover import Handover
from services.agent.core.ha.moments import busy, ways
from services.agent.core.ha.standing import Decision, Health
from services.agent.core.routing.hagroups import HaKey
from shared.events.documents import PresenceDoc, RouteDoc, Withdrawn
from tests.unit.agent import make
from tests.unit.agent.make import key, peer, route
from tests.unit.agent.test_connections import number

LAN: HaKey = ("lan", "10.1.0.0/16", ())
BOTH = frozenset({key("a"), key("b")})


class Client:
    """A host whose LAN a carried so far."""

    def __init__(self, *routes: RouteDoc, masquerade: bool = True) -> None:
        plain = (route("lan", by=("a", "b"), masquerade=masquerade),)
        self.documents: Documents = make.documents(make.me(), [peer("a"), peer("b")], routes=routes or plain)
        self.connected = BOTH
        self.health: dict[str, Health] = {}
        self.handover = Handover()
        self.decide("a", 0.0)

    def decide(self, peer_id: str, now: float, released: str = "") -> str:
        """Who carries the LAN after this decision. released: the peer to which it may move now."""
        self.handover.update(
            self.documents,
            {LAN: Decision(peer_id=peer_id, reason="")},
            {LAN: Decision(peer_id=released, reason="")} if released else {},
            self.connected,
            self.health,
            now,
        )
        return self.handover.carriers[LAN].peer_id

    def hear(self, **said: object) -> None:
        """The word of a."""
        presence = PresenceDoc(peer_id="a", agent=True, **said)  # type: ignore[arg-type]
        self.documents = replace(self.documents, presences={"a": presence})


def test_the_first_decision_is_carried_out() -> None:
    assert Client().handover.carriers[LAN].peer_id == "a"


def test_a_move_from_one_that_works_waits_for_its_moment() -> None:
    client = Client()
    assert client.decide("b", 1.0) == "a"
    assert client.handover.waiting == {LAN: Decision(peer_id="b", reason="")}
    assert client.decide("b", 2.0, released="b") == "b"
    assert client.handover.waiting == {}


@pytest.mark.parametrize(("draining", "patience_s"), [(True, 5.0), (False, 30.0)])
def test_patience_ends(draining: bool, patience_s: float) -> None:
    client = Client()
    client.hear(draining=draining)
    assert client.decide("b", 1.0) == "a"
    assert client.handover.next_deadline == 1.0 + patience_s
    assert client.decide("b", 0.9 + patience_s) == "a"
    assert client.decide("b", 1.0 + patience_s) == "b"
    assert client.handover.next_deadline is None


def test_a_peer_that_dies_while_a_move_waits_is_left_at_once() -> None:
    client = Client()
    assert client.decide("b", 1.0) == "a"
    client.health = {"a": Health(verdict="down", public_key=key("a"))}
    assert client.decide("b", 1.1) == "b"


@pytest.mark.parametrize("why", ["no session", "down", "withdrawn", "unknown", "nobody masquerades", "to nobody"])
def test_what_is_no_planned_move_waits_for_nothing(why: str) -> None:
    client = Client(masquerade=why != "nobody masquerades")
    match why:
        case "no session":
            client.connected = frozenset({key("b")})
        case "down":
            client.health = {"a": Health(verdict="down", public_key=key("a"))}
        case "withdrawn":
            client.hear(withdrawn=(Withdrawn("lan", "its LAN is gone"),))
        case "unknown":
            client.documents = replace(client.documents, peers={"b": client.documents.peers["b"]})
    to = "" if why == "to nobody" else "b"
    assert client.decide(to, 1.0) == to


def test_of_two_routes_of_a_set_either_may_masquerade_r5() -> None:
    one, other = (route(name, by=name, network_id="lan", masquerade=name == "b") for name in ("a", "b"))
    assert Client(one, other).decide("b", 1.0) == "a"


def test_a_decision_that_is_taken_back_never_happened() -> None:
    client = Client()
    assert client.decide("b", 1.0) == "a"
    assert client.decide("a", 20.0) == "a"
    assert client.decide("b", 25.0) == "a"
    assert client.decide("b", 40.0) == "a", "it waits anew"


def test_the_word_of_an_old_moment_moves_nothing() -> None:
    client = Client()
    assert client.decide("b", 1.0, released="a") == "a"


# What is in the middle of something


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sent_ms": 300, "received_ms": 250}, False),
        ({"sent_ms": 300, "received_ms": 5}, True),
        ({"sent_ms": 300, "received_ms": 90, "rtt_ms": 50.0}, True),
        ({"sent_ms": 800, "received_ms": 900}, True),
        ({"sent_ms": 6000, "received_ms": 9000}, False),
        ({"sent_ms": 400, "received_ms": 400}, True),
        ({"sent_ms": 1200, "received_ms": 1200}, False),
        ({"sent_ms": 300, "received_ms": 250, "sending": True}, True),
        ({"sent_ms": 300, "received_ms": 250, "unread": True}, True),
        ({"sent_ms": 3000, "received_ms": 2500, "unread": True}, False),
        ({"sent_ms": 9000, "received_ms": 9000, "sending": True}, False),
    ],
)
def test_a_connection_is_busy_while_data_or_an_answer_is_on_its_way(fields: dict[str, float], expected: bool) -> None:
    assert is_busy(Socket(version=4, destination=1, **fields)) is expected  # type: ignore[arg-type]


def flow(source: str, destination: str, state: FlowState = "open", idle_s: int = 0) -> Flow:
    return Flow(
        version=4, protocol=6, source=number(source), destination=number(destination), state=state, idle_s=idle_s
    )


@pytest.mark.parametrize(
    ("sockets", "flows", "expected"),
    [
        ((), (), False),
        ((Socket(version=4, destination=number("10.1.2.3"), sending=True),), (), True),
        ((Socket(version=4, destination=number("10.1.9.3"), sending=True),), (), False),
        ((Socket(version=4, destination=number("192.0.2.1"), sending=True),), (), False),
        ((), (flow("100.64.0.1", "10.1.2.3"),), False),
        ((), (flow("100.64.0.1", "10.1.2.3", "opening"),), True),
        ((), (flow("100.64.0.1", "10.1.2.3", "opening", 9),), False),
        ((), (flow("172.16.0.5", "10.1.2.3"),), True),
        ((), (flow("172.16.0.5", "10.1.2.3", "closing"),), False),
        ((), (flow("172.16.0.5", "10.1.2.3", "open", 2),), False),
    ],
)
def test_a_set_is_busy_with_the_connections_that_it_carries(
    sockets: Iterable[Socket], flows: Iterable[Flow], expected: bool
) -> None:
    there = make.documents(
        make.me(), [peer("a"), peer("b")], routes=[route("lan", by="a"), route("inner", "10.1.9.0/24", by="b")]
    )
    carried = carriers(there, {key("a"): ["10.1.0.0/16"], key("b"): ["10.1.9.0/24"]})
    way = ways(there, carried, {LAN})
    assert way.peers == {LAN: "a"}
    assert busy(way, ["100.64.0.1"], sockets, flows) == ({LAN} if expected else set())
