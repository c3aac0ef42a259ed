"""Which HA sets there are to decide about, what is known of their candidates, and whom it asks for."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.ha.hasets import HaSets, Known
from services.agent.core.ha.standing import Health, Probed, Switch, Verdict
from services.agent.core.routing.choices import Selection
from shared.events.documents import PresenceDoc, RouteDoc, Withdrawn
from tests.unit.agent import make

GATEWAYS = ("a", "b", "c")
BOTH = make.route("r", "10.1.0.0/16", by=("a", "b"))
R = ("r", "10.1.0.0/16", ())


def health(**verdicts: Verdict | tuple[Verdict, float]) -> dict[str, Health]:
    found = {name: one if isinstance(one, tuple) else (one, 0.01) for name, one in verdicts.items()}
    return {
        name: Health(verdict=verdict, rtt_s=rtt_s, public_key=make.key(name))
        for name, (verdict, rtt_s) in found.items()
    }


def presence(name: str, *withdrawn: str, **fields: Any) -> PresenceDoc:
    gone = tuple(Withdrawn(route_id, "eth1 is gone") for route_id in withdrawn)
    return PresenceDoc(peer_id=name, withdrawn=gone, **{"agent": True, **fields})


class Host:
    """A client of routes by three gateways, all connected and none asked yet."""

    def __init__(self, *routes: RouteDoc, sets: HaSets | None = None, **fields: Any) -> None:
        self.sets = sets or HaSets()
        self.now = 1000.0
        peers = [make.peer(name, number=number) for number, name in enumerate(GATEWAYS, 2)]
        documents = make.documents(None, peers, routes=routes or (BOTH,))
        plain = {"connected": frozenset(map(make.key, GATEWAYS)), "is_open": True, "documents": documents}
        self.known = Known(**{**plain, **fields})
        self.switches: list[Switch] = []
        self.look()

    def look(self, seconds: float = 0.0, **fields: Any) -> None:
        until = self.now + seconds
        while (due := self.sets.next_deadline()) is not None and due <= until:
            self.now = due
            self.switches += self.sets.update(self.known, self.now, self.now)
        self.now = until
        self.known = self.known._replace(**fields)
        self.switches += self.sets.update(self.known, self.now, self.now)

    def tell(self, *presences: PresenceDoc, seconds: float = 0.0) -> None:
        told = {**self.known.documents.presences, **{one.peer_id: one for one in presences}}
        self.look(seconds, documents=replace(self.known.documents, presences=told))

    def carrier(self, key: tuple[str, str, tuple[str, ...]] = R) -> str | None:
        decision = self.sets.decisions.get(key)
        return decision.peer_id if decision else None

    def why(self, peer_id: str) -> str:
        """What people are told of it."""
        return next(one.why for one in self.sets.rankings[R].candidates if one.peer_id == peer_id)

    def asked(self) -> dict[str, str]:
        return {peer_id: one.role for peer_id, one in self.sets.probed.items()}


def test_the_one_in_use_and_one_standby_are_asked_over_the_tunnel_g2() -> None:
    host = Host(make.route("r", "10.1.0.0/16", by=GATEWAYS))
    assert (host.carrier(), host.asked()) == ("a", {"a": "in use", "b": "standby"})
    assert host.sets.probed["a"] == Probed(public_key=make.key("a"), address="100.64.0.2", role="in use")


def test_whoever_is_down_is_asked_until_wireguard_gives_it_up_g2() -> None:
    host = Host(make.route("r", "10.1.0.0/16", by=GATEWAYS))
    host.look(health=health(a="down", b="up"))
    assert (host.carrier(), host.asked()) == ("b", {"a": "standby", "b": "in use", "c": "standby"})
    host.look(connected=host.known.connected - {make.key("a")})
    assert host.asked() == {"b": "in use", "c": "standby"}


def test_sets_share_the_probe_of_a_routing_peer_g2() -> None:
    host = Host(BOTH, make.route("s", "10.2.0.0/16", by=("b", "c"), metric=1), make.route("t", "10.3.0.0/16", by="c"))
    assert host.asked() == {"a": "in use", "b": "in use", "c": "in use"}


def test_there_is_nothing_to_decide_where_the_only_candidate_is_usable() -> None:
    host = Host(make.route("r", "10.1.0.0/16", by="a"))
    assert (host.carrier(), host.asked()) == (None, {"a": "in use"})
    host.look(health=health(a="down"))
    assert host.carrier() == "a"
    host.look(10.0)
    assert (host.carrier(), [one.cause for one in host.switches]) == ("", ["down"])
    host.look(health=health(a="up"))
    assert (host.carrier(), [one.cause for one in host.switches]) == (None, ["down", "back"])


def test_a_routing_peer_that_is_down_is_left_in_the_same_turn_g2() -> None:
    host = Host()
    host.look(health=health(a="up", b="up"))
    host.look(health=health(a="down", b="up"))
    assert host.carrier() == "b"
    assert host.switches == [
        Switch(
            at=1000.0,
            network_id="r",
            where="10.1.0.0/16",
            former="a",
            former_name="a.whimbrel.test",
            now="b",
            now_name="b.whimbrel.test",
            cause="down",
            reason="the one before does not answer",
        )
    ]


def test_what_is_said_of_another_key_is_not_said_of_the_peer() -> None:
    host = Host()
    before = host.sets.ignored
    host.look(health={"a": Health(verdict="down", public_key=make.key("before"))})
    assert host.carrier() == "a"
    assert host.sets.ignored == before + 1


def test_a_route_that_its_routing_peer_withdrew_goes_to_another_and_the_others_stay_g3() -> None:
    host = Host(BOTH, make.route("s", "10.2.0.0/16", by=("a", "b")))
    host.tell(presence("a", "r"))
    assert (host.carrier(), host.carrier(("s", "10.2.0.0/16", ()))) == ("b", "a")
    host.tell(presence("a"))
    host.look(2.9, health=health(a="up", b="up"))
    assert host.carrier() == "b"


def test_of_several_routes_of_one_peer_the_best_that_is_not_withdrawn_counts_g3() -> None:
    twice = (make.route("r1", network_id="r", by="a", metric=1), make.route("r2", network_id="r", by=("a", "b")))
    host = Host(*twice, make.route("r3", network_id="r", by="c", metric=50))
    assert host.carrier() == "a"
    host.tell(presence("a", "r1"))
    host.look(3.1, health=health(a="up", c="up"))
    assert host.carrier() == "c"


def test_an_agent_that_is_gone_for_a_minute_is_a_hint_while_this_host_is_on_the_bus() -> None:
    host = Host(health=health(a="up", b="up"))
    host.tell(presence("a", agent=False))
    host.look(59.9)
    assert host.why("a") == ""
    host.look(0.2)
    assert (host.why("a"), host.carrier(), host.switches) == ("no agent", "a", [])
    host.look(health=health(a="down", b="up"))
    host.look(60.0, health=health(a="up", b="up"))
    assert host.carrier() == "b"
    host.tell(presence("a"))
    host.look(60.0)
    assert host.carrier() == "b", "which is as good"


def test_a_control_plane_that_is_away_moves_nothing() -> None:
    host = Host(health=health(a="up", b="up"))
    host.tell(presence("a", agent=False), seconds=1.0)
    host.look(50.0)
    host.look(is_open=False)
    host.look(3600.0)
    assert host.why("a") == ""
    host.look(is_open=True)
    host.look(59.0)
    assert host.why("a") == ""
    host.look(2.0)
    assert host.why("a") == "no agent"
    host.look(is_open=False)
    host.look(3600.0)
    assert (host.why("a"), host.carrier(), host.switches) == ("no agent", "a", [])


def test_who_holds_the_return_address_of_a_route_that_has_one_carries_it() -> None:
    fixed = make.route("s", "10.2.0.0/16", by=("a", "b"), return_address="10.2.0.1")
    host = Host(BOTH, fixed)
    host.tell(presence("b", holds=("r", "s")))
    assert (host.carrier(), host.carrier(("s", "10.2.0.0/16", ()))) == ("a", "b")


@pytest.mark.parametrize("selection", [Selection(deselected=frozenset({"r"})), Selection(none=True)])
def test_what_people_do_not_use_is_not_decided_about(selection: Selection) -> None:
    host = Host()
    host.look(selection=selection)
    assert (host.carrier(), host.asked()) == (None, {})
    host.look(selection=Selection())
    assert (host.carrier(), host.asked()) == ("a", {"a": "in use", "b": "standby"})


def test_peers_that_make_no_sense_or_are_not_seen_are_no_candidates() -> None:
    host = Host(make.route("r", "10.1.0.0/16", by=("a", "b", "stranger")), skipped=("a",))
    assert (host.carrier(), host.asked()) == (None, {"b": "in use"})
    bad = {**host.known.documents.peers, "b": replace(host.known.documents.peers["b"], has_key=False)}
    host.look(documents=replace(host.known.documents, peers=bad))
    assert host.asked() == {}


def test_over_ipv6_only_those_with_an_ipv6_address_are_candidates() -> None:
    host = Host(make.route("r", "2001:db8::/48", by=("a", "b")))
    without = {**host.known.documents.peers, "a": replace(host.known.documents.peers["a"], address_v6="", v6="")}
    host.look(documents=replace(host.known.documents, peers=without))
    assert host.asked() == {"b": "in use"}


@pytest.mark.parametrize(
    "route",
    [make.route("r", "10.1.0.0/16", by=("a", "b"), metric=1), make.route("r", domains=("x.example",), by=("a", "b"))],
)
def test_a_start_keeps_whom_the_device_leads_to(route: RouteDoc) -> None:
    """kill -9 after the switch: the one before may be dead still, and WireGuard does not know for a minute."""
    prefix = "203.0.113.9/32" if route.domains else "10.1.0.0/16"
    sets = HaSets({prefix: make.key("b"), "100.64.0.3/32": make.key("b")})
    documents = Host(route).known.documents
    resolved = make.documents(resolutions=[make.resolution("r", x_example=("203.0.113.9",))]).resolutions
    host = Host(sets=sets, documents=replace(documents, resolutions=resolved))
    key = next(iter(sets.decisions))
    host.look(60.0, health=health(b="up"))
    assert (host.carrier(key), host.switches) == ("b", [])
    assert sets.decisions[key].reason == "it carried the set when this agent began"


def test_a_start_finishes_a_switch_that_was_begun() -> None:
    """kill -9 before the switch: it is found to be down once more."""
    host = Host(sets=HaSets({"10.1.0.0/16": make.key("a")}))
    host.look(health=health(a="unknown", b="up"))
    assert host.carrier() == "a"
    host.look(connected=frozenset({make.key("b")}))
    assert host.carrier() == "b"


def test_a_start_still_knows_since_when_and_why() -> None:
    former = Switch(
        at=77.0,
        network_id="r",
        where="10.1.0.0/16",
        former="a",
        former_name="a",
        now="b",
        now_name="b",
        cause="down",
        reason="the one before does not answer",
    )
    host = Host(sets=HaSets({"10.1.0.0/16": make.key("b")}, [former]))
    assert (host.sets.decisions[R].at, host.sets.decisions[R].reason) == (77.0, "the one before does not answer")


def test_a_path_that_drifts_slowly_is_looked_at_when_it_has_drifted_far_g1() -> None:
    host = Host(health=health(a=("up", 0.05), b=("up", 0.05)))
    for step in range(200):
        host.look(0.01, health=health(a=("up", 0.05), b=("up", 0.05 - 0.0002 * step)))
    host.look(3.5)
    assert (host.carrier(), host.switches[-1].cause) == ("b", "latency")


def test_what_stays_is_the_same_object() -> None:
    host = Host(health=health(a="up", b="up"))
    before = host.sets.decisions, host.sets.rankings, host.sets.probed
    host.look(1.0, health=health(a=("up", 0.0108), b="up"))
    host.look(5.0)
    after = host.sets.decisions, host.sets.rankings, host.sets.probed
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_a_route_that_goes_and_comes_back_is_chosen_anew() -> None:
    host = Host()
    documents = host.known.documents
    host.look(health=health(a="down", b="up"))
    host.look(documents=Documents())
    assert (host.carrier(), host.asked()) == (None, {})
    host.look(documents=documents, health={})
    assert host.carrier() == "a"
