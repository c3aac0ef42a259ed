"""What is said of a packet's way through the table: which rules it met, and which documents those come from."""

from collections.abc import Iterable

import pytest

from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import elements, holding
from services.agent.core.firewall.trace import Packet, Trace, trace
from services.agent.core.intervals import Range
from services.agent.core.kernel import CONTROL_MARK, LISTEN_PORT, Ruleset
from services.agent.core.reconcile.desired import desired
from services.agent.core.rule import Origin
from shared.events.documents import RouteDoc, RuleDoc
from tests.unit.agent import make
from tests.unit.agent.make import permit, ports, rule, served

ALICE, BOB = "100.64.0.11", "100.64.0.12"
LAN, ME = "10.1.0.9", "100.64.0.1"


def gateway(*routes: RouteDoc, rules: Iterable[RuleDoc] = ()) -> Documents:
    peers = (make.peer("alice", "office", v4=ALICE, v6="fd00:64::b"), make.peer("bob", "guests", v4=BOB))
    return make.documents(make.me("me", "routers"), peers, rules=rules, routes=routes)


def table(there: Documents) -> Ruleset:
    found = desired(there, make.local()).ruleset
    assert found is not None
    return found


def through(there: Documents, source: str = ALICE, destination: str = LAN, port: int = 80, **more: object) -> Trace:
    """A packet out of the tunnel into the LAN; with out_interface="" to the host itself."""
    plain = {"in_interface": "wt0", "out_interface": "lan0"}
    packet = Packet(source=source, destination=destination, port=port, **{**plain, **more})  # type: ignore[arg-type]
    return trace(table(there), packet)


def path(found: Trace) -> list[str]:
    """The chains of the rules that were met, without what follows the first word."""
    return [step.chain.split("_")[0] for step in found.steps]


def origins(found: Trace) -> tuple[Origin, ...]:
    """Those of the rule that decided about the packet, whatever was done to it afterwards."""
    return [step.origins for step in found.steps if step.rule.verdict in ("accept", "drop")][-1]


def test_a_packet_that_passes_was_let_through_by_the_permit_of_its_route() -> None:
    found = through(gateway(served("r1", "10.1.0.0/16", permit("q1", "office"))))
    assert (found.verdict, found.masqueraded) == ("accept", True)
    assert path(found) == ["forward", "forward", "permits", "postrouting"]
    assert [step.element for step in found.steps] == ["", "10.1.0.0/16", "", ""]
    assert origins(found) == (Origin(route="r1", rule="q1"),)


def test_a_packet_that_nothing_permits_ends_at_the_last_rule() -> None:
    found = through(gateway(served("r1", "10.1.0.0/16", permit("q1", "office"))), source=BOB)
    assert found.verdict == "drop"
    last = found.steps[-1]
    assert (last.chain, last.rule.conditions, last.origins) == ("forward_overlay", (), ())


def test_a_drop_is_told_with_the_policy_where_the_host_has_its_rule() -> None:
    drop = rule("q2", ["office"], ["routers"], action="drop", policy_id="p2", protocol="tcp", ports=ports(80))
    there = gateway(served("r1", "10.1.0.0/16", permit("q2", "office", action="drop")), rules=[rule("q1"), drop])
    to_me = through(there, destination=ME, out_interface="")
    assert (to_me.verdict, origins(to_me)) == ("drop", (Origin(policy="p2", rule="q2", ports=(Range(80, 80),)),))
    beyond = through(there)
    assert (beyond.verdict, origins(beyond)) == ("drop", (Origin(route="r1", policy="p2", rule="q2"),))


def test_of_rules_that_became_one_those_are_named_that_speak_of_the_port() -> None:
    """Rules of the same sources share a rule of the table, whose ids are those of all of them."""
    rules = [rule(f"q{port}", ["office"], protocol="tcp", ports=ports(port, (8000, 8001))) for port in (80, 443)]
    there = gateway(rules=rules)
    named = {
        port: [one.rule for one in origins(through(there, destination=ME, port=port, out_interface=""))]
        for port in (80, 443, 8000, 81)
    }
    assert named == {80: ["q80"], 443: ["q443"], 8000: ["q443", "q80"], 81: []}


def test_of_routes_with_equal_permits_that_one_is_named_which_the_destination_is_behind() -> None:
    """They share one chain, whose rules come from the permits of all of them."""
    there = gateway(
        served("r1", "10.1.0.0/16", permit("q1", "office")),
        served("r2", "10.2.0.0/16", permit("q2", "office")),
        served("r3", "10.2.3.0/24", permit("q3", "office")),
    )
    chains = [chain for chain in table(there).chains if chain.name.startswith("permits_")]
    assert [len(chain.rules[0].origins) for chain in chains] == [3]
    assert origins(through(there)) == (Origin(route="r1", rule="q1"),)
    assert origins(through(there, destination="10.2.0.1")) == (Origin(route="r2", rule="q2"),)
    both = Origin(route="r2", rule="q2"), Origin(route="r3", rule="q3")
    assert origins(through(there, destination="10.2.3.1")) == both


def test_a_route_without_access_control_groups_is_named_alone_a2() -> None:
    assert origins(through(gateway(served("r1")))) == (Origin(route="r1"),)


@pytest.mark.parametrize(("state", "masqueraded"), [("new", True), ("established", False), ("reply", False)])
def test_addresses_are_translated_once_for_each_connection(state: str, masqueraded: bool) -> None:
    assert through(gateway(served("r1")), state=state).masqueraded is masqueraded


def test_what_the_kernel_was_seen_to_hold_decides_where_it_is_not_what_it_shall_be() -> None:
    there = gateway(served("r1"))
    found = {**elements(table(there)), "closed_to_v4": frozenset({"10.1.0.0/24"})}
    packet = Packet(source=ALICE, destination=LAN, in_interface="wt0", out_interface="lan0")
    assert trace(holding(table(there), found), packet).steps[-1].chain == "forward_overlay"
    assert trace(holding(table(there), found), packet).verdict == "drop"
    assert holding(table(there), elements(table(there))).sets == table(there).sets


@pytest.mark.parametrize(
    ("packet", "verdict", "mark"),
    [
        ({"in_interface": "eth0", "port": LISTEN_PORT}, "accept", CONTROL_MARK),
        ({"in_interface": "eth0", "port": LISTEN_PORT, "out_interface": "lan0"}, "accept", 0),
        ({"in_interface": "eth0", "port": LISTEN_PORT, "mark": 0x100000FF}, "accept", CONTROL_MARK | 0x100000FF),
        ({"in_interface": "eth0", "state": "reply", "connection_mark": CONTROL_MARK}, "accept", CONTROL_MARK),
        ({"in_interface": "eth0", "state": "established", "connection_mark": CONTROL_MARK}, "accept", 0),
        ({"in_interface": "wt0", "port": LISTEN_PORT}, "drop", 0),
        ({"out_interface": "eth0", "mark": CONTROL_MARK}, "accept", CONTROL_MARK),
    ],
)
def test_what_carries_the_tunnel_is_marked_on_its_way_in(packet: dict[str, object], verdict: str, mark: int) -> None:
    sent = Packet(source="192.0.2.9", destination="192.0.2.1", protocol="udp", **packet)  # type: ignore[arg-type]
    found = trace(table(gateway(rules=[rule("q1")])), sent)
    assert (found.verdict, found.mark) == (verdict, mark)
    if not sent.in_interface:
        assert found.connection_mark == CONTROL_MARK


def test_without_a_table_everything_passes() -> None:
    assert trace(None, Packet(source=ALICE, destination=LAN, in_interface="wt0")) == Trace(
        verdict="accept", steps=(), masqueraded=False, mark=0, connection_mark=0
    )


@pytest.mark.parametrize(
    ("state", "masquerade", "source", "out", "verdict"),
    [
        ("stray", True, ALICE, "lan0", "reset"),
        ("stray", False, ALICE, "lan0", "accept"),
        ("stray", True, BOB, "lan0", "drop"),
        ("stray", True, ALICE, "wt0", "accept"),
        ("new", True, ALICE, "lan0", "accept"),
        ("established", True, ALICE, "lan0", "accept"),
        ("invalid", True, ALICE, "lan0", "drop"),
        ("invalid", False, ALICE, "lan0", "accept"),
    ],
)
def test_a_connection_that_cannot_be_masqueraded_any_more_is_told_so_where_a_permit_lets_it_in(
    state: str, masquerade: bool, source: str, out: str, verdict: str
) -> None:
    there = gateway(served("r1", "10.1.0.0/16", permit("q1", "office"), masquerade=masquerade))
    assert through(there, source=source, state=state, out_interface=out).verdict == verdict
