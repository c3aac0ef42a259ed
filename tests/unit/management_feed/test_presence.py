"""How routing peers stand, as the feed says it."""

import pytest
from msgspec.structs import replace
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.core.entities import Entity
from services.management.core.feed.compose import documents
from services.management.core.feed.unit import LastWord, Observed
from services.management.projector.snapshot import FeedSnapshot
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import FeedMessage, PresenceDoc, Withdrawn
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT, ALL, group, peer, policy, route, rule, state

GROUPS = (group("office"), group("gateways"), group("guests"))
HOSTS = (peer("alice", "office"), peer("gw1", "gateways"), peer("gw2", "gateways"), peer("guest", "guests"))
SEEN_BY_OFFICE = policy("q", rule("q", sources=("office",), destinations=("gateways",)))
LAN = route("lan", peer_groups=("gateways",), groups=("office",))
DB = route("db", "10.7.0.0/24", peer="gw1", groups=("office",))

AWAY = PresenceDoc(peer_id="gw1", agent=False)
NO_LINK = (Withdrawn("lan", "no link"),)
WORD = LastWord(
    agent=True,
    draining=True,
    withdrawn=(Withdrawn("lan", "no link"), Withdrawn("db", "no route"), Withdrawn("elsewhere", "no idea")),
    holds=("lan", "elsewhere", "db"),
)


def presences(*entities: Entity, **words: LastWord) -> dict[tuple[str, str], PresenceDoc]:
    """Audience and peer → the document, of others than the peer itself."""
    said = copies(*entities, **words)
    of_others = {(audience, id): document for (audience, id), document in said.items() if audience != f"p.{id}"}
    assert {id for _, id in said} == {id for _, id in of_others}
    return of_others


def copies(*entities: Entity, **words: LastWord) -> dict[tuple[str, str], PresenceDoc]:
    """Audience and peer → the document."""
    found = documents(state(*GROUPS, *HOSTS, SEEN_BY_OFFICE, *entities), Observed(last_words=words))
    return {(key.audience, key.id): document for key, document in found.items() if isinstance(document, PresenceDoc)}


def test_c3_each_audience_is_told_of_the_routes_that_it_is_told_of_and_the_peer_itself_of_all() -> None:
    secret = route("secret", "10.9.0.0/24", peer="gw1", groups=("guests",))
    word = LastWord(
        agent=True, withdrawn=(Withdrawn("secret", "10.9.0.7 is silent"), *NO_LINK), holds=("secret", "lan")
    )
    whole = PresenceDoc(
        peer_id="gw1",
        agent=True,
        withdrawn=(*NO_LINK, Withdrawn("secret", "10.9.0.7 is silent")),
        holds=("lan", "secret"),
    )
    assert copies(policy("all"), LAN, secret, gw1=word) == {
        ("g.office", "gw1"): PresenceDoc(peer_id="gw1", agent=True, withdrawn=NO_LINK, holds=("lan",)),
        ("g.guests", "gw1"): replace(whole, withdrawn=whole.withdrawn[1:], holds=("secret",)),
        ("p.gw1", "gw1"): whole,
    }


def test_a_new_owner_goes_by_what_is_said_to_the_peer_itself() -> None:
    whole = PresenceDoc(peer_id="gw1", agent=True, withdrawn=NO_LINK)
    found = FeedSnapshot(Undecodables(), lambda _key, _sequence: None)
    for sequence, (audience, document) in enumerate((("g.a", AWAY), ("p.gw1", whole), ("g.b", AWAY)), 1):
        subject = subjects.feed(FeedKey(ACCOUNT, audience, "presence", "gw1"))
        found.take(Msg(Client(), subject, data=encode(FeedMessage(7, document))), sequence)
    assert found.presences == {(ACCOUNT, "gw1"): whole}


def test_what_was_heard_is_said_of_the_routes_that_the_peer_serves() -> None:
    assert presences(LAN, DB, gw1=WORD, gw2=WORD) == {
        ("g.office", "gw1"): PresenceDoc(
            peer_id="gw1",
            agent=True,
            draining=True,
            withdrawn=(Withdrawn("db", "no route"), Withdrawn("lan", "no link")),
            holds=("db", "lan"),
        ),
        ("g.office", "gw2"): PresenceDoc(
            peer_id="gw2", agent=True, draining=True, withdrawn=(Withdrawn("lan", "no link"),), holds=("lan",)
        ),
    }


@pytest.mark.parametrize("served", [(), (route("lan", peer_groups=("gateways",), enabled=False),)])
def test_peers_that_route_nothing_cost_no_document(served: tuple[Entity, ...]) -> None:
    assert presences(*served, gw1=WORD, alice=WORD) == {}


def test_nothing_is_said_of_a_routing_peer_that_nothing_was_heard_of() -> None:
    assert presences(LAN) == {}


def test_g6_a_peer_that_sees_no_other_routing_peer_learns_that_people_drain_it() -> None:
    drained = peer("gw1", "gateways", draining=True)
    found = documents(state(*GROUPS, *HOSTS, SEEN_BY_OFFICE, LAN, drained), Observed())
    (own,) = (one for key, one in found.items() if key.audience == "p.gw1" and isinstance(one, PresenceDoc))
    assert own.draining


def test_g6_people_drain_a_peer_whatever_its_agent_says() -> None:
    drained = peer("gw1", "gateways", draining=True)
    assert presences(LAN, drained) == {("g.office", "gw1"): PresenceDoc(peer_id="gw1", agent=False, draining=True)}
    assert presences(LAN, drained, gw1=LastWord(agent=True))["g.office", "gw1"].draining


def test_the_last_of_two_reasons_counts_and_a_route_that_is_served_twice_is_named_once() -> None:
    twice = route("lan", peer_groups=("gateways", ALL), groups=("office",))
    word = LastWord(agent=True, withdrawn=(Withdrawn("lan", "first"), Withdrawn("lan", "second")), holds=("lan", "lan"))
    found = presences(twice, gw1=word)["g.office", "gw1"]
    assert (found.withdrawn, found.holds) == ((Withdrawn("lan", "second"),), ("lan",))
