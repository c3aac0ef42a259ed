"""How routing peers stand, as the feed says it."""

import pytest

from services.management.core.entities import Entity
from services.management.core.feed.compose import documents
from services.management.core.feed.unit import LastWord, Observed
from shared.events.documents import PeerDoc, PresenceDoc, Withdrawn
from tests.builders import ALL, group, peer, policy, route, rule, state

GROUPS = (group("office"), group("gateways"), group("guests"))
HOSTS = (peer("alice", "office"), peer("gw1", "gateways"), peer("gw2", "gateways"), peer("guest", "guests"))
SEEN_BY_OFFICE = policy("q", rule("q", sources=("office",), destinations=("gateways",)))
LAN = route("lan", peer_groups=("gateways",), groups=("office",))
DB = route("db", "10.7.0.0/24", peer="gw1", groups=("office",))

WORD = LastWord(
    agent=True,
    draining=True,
    withdrawn=(Withdrawn("lan", "no link"), Withdrawn("db", "no route"), Withdrawn("elsewhere", "no idea")),
    holds=("lan", "elsewhere", "db"),
)


def presences(*entities: Entity, **words: LastWord) -> dict[tuple[str, str], PresenceDoc]:
    """Audience and peer → the document, in an account where the office sees the gateways; each sees its own as well."""
    found = documents(state(*GROUPS, *HOSTS, SEEN_BY_OFFICE, *entities), Observed(last_words=words))
    said = {(key.audience, key.id): document for key, document in found.items() if isinstance(document, PresenceDoc)}
    of_others = {(audience, id): document for (audience, id), document in said.items() if audience != f"p.{id}"}
    assert {f"p.{id}": said[f"p.{id}", id] for _, id in said} == {f"p.{id}": one for (_, id), one in of_others.items()}
    return of_others


def test_whoever_sees_a_routing_peer_reads_how_it_stands() -> None:
    there = state(*GROUPS, *HOSTS, SEEN_BY_OFFICE, policy("all"), LAN)
    found = documents(there, Observed(last_words={"gw1": LastWord(agent=True)}))
    audiences = {key.audience for key, document in found.items() if isinstance(document, PresenceDoc)}
    seeing = {key.audience for key, d in found.items() if isinstance(d, PeerDoc) and d.peer_id == "gw1"}
    assert seeing == {"g.office", f"g.{ALL}"}
    assert audiences == {*seeing, "p.gw1"}


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
