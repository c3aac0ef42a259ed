"""Permits for what the forwarder learns of names: domain routes with sets that are filled while the table stays."""

import pytest

from services.agent.core.documents import Documents
from services.agent.core.firewall.closing import closing
from services.agent.core.firewall.learned import learned_name
from services.agent.core.firewall.ruleset import elements, same_forward, shape
from services.agent.core.kernel import FORWARDER_PORT, ObservedRuleset, Ruleset
from services.agent.core.reconcile.desired import desired
from shared.events.documents import Permit, RouteDoc
from tests.fakes.kernel import FakeKernel
from tests.unit.agent import make
from tests.unit.agent.make import permit, ports, rule, served

ALICE, BOB = "100.64.0.11", "100.64.0.12"
PEERS = (make.peer("alice", "office", number=11), make.peer("bob", "guests", number=12))
SHARED, SHARED_V6 = "198.51.100.7", "2001:db8::7"
BOTH = ("office", "guests")
DROP_ALL = rule("shut", action="drop")


def named(name: str, domain: str, *permits: Permit, **fields: object) -> RouteDoc:
    return served(name, "", *permits, domains=(domain,), **fields)  # type: ignore[arg-type]


MAIL = named("mail", "mx.example", permit("m", "office", protocol="tcp", ports=ports(25)), distribution=BOTH)
WEB = named("web", "*.example", permit("w", "guests", protocol="tcp", ports=ports(80)), distribution=BOTH)


def gateway(*routes: RouteDoc, **settings: object) -> Documents:
    return make.documents(
        make.me("me", "routers"), PEERS, rules=[DROP_ALL], routes=routes, settings_doc=make.settings(**settings)
    )


def table(*routes: RouteDoc, **settings: object) -> Ruleset:
    found = desired(gateway(*routes, **settings), make.local()).ruleset
    assert found is not None
    return found


def kernel(*routes: RouteDoc, **settings: object) -> FakeKernel:
    fake = FakeKernel(sysctls={"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})
    fake.ruleset = table(*routes, **settings)
    fake.links = dict(desired(gateway(*routes), make.local()).links)
    return fake


def learn(there: FakeKernel, route: str, *addresses: str) -> None:
    for version in (4, 6):
        found = {one: 60.0 for one in addresses if (":" in one) == (version == 6)}
        if found:
            assert there.fill({learned_name(route, 4 if version == 4 else 6): found}) is None


def test_a6_two_names_on_one_address_stay_apart_for_each_ones_sources_and_ports() -> None:
    there = kernel(MAIL, WEB)
    assert not there.forwards(ALICE, SHARED, port=25)
    learn(there, "mail", SHARED)
    assert there.forwards(ALICE, SHARED, port=25)
    assert not there.forwards(BOB, SHARED, port=80)
    learn(there, "web", SHARED)
    assert there.forwards(BOB, SHARED, port=80)
    assert not there.forwards(ALICE, SHARED, port=80)
    assert not there.forwards(BOB, SHARED, port=25)


def test_both_families_are_learned_and_forwarded() -> None:
    there = kernel(named("mail", "mx.example"))
    learn(there, "mail", SHARED, SHARED_V6)
    assert there.forwards(ALICE, SHARED)
    assert there.forwards("fd00:64::b", SHARED_V6)
    state = desired(gateway(MAIL), make.local())
    assert {"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} <= state.sysctls.keys()


def test_a7_a_drop_comes_first_and_ends_what_is_under_way() -> None:
    shut = permit("no", "office", action="drop", protocol="tcp", ports=ports(25))
    there = kernel(named("mail", "mx.example", permit("m", "office"), shut, distribution=BOTH))
    learn(there, "mail", SHARED)
    assert there.forwards(ALICE, SHARED, port=80)
    assert not there.forwards(ALICE, SHARED, port=25)
    assert not there.forwards(ALICE, SHARED, port=25, state="reply")


def test_a_name_that_is_not_refreshed_closes() -> None:
    there = kernel(MAIL)
    learn(there, "mail", SHARED)
    there.passes(61)
    assert not there.forwards(ALICE, SHARED, port=25)


@pytest.mark.parametrize(
    ("learned_masquerades", "prefix_masquerades"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_g10_a_name_decides_about_masquerading_before_the_prefix_that_covers_its_address(
    learned_masquerades: bool, prefix_masquerades: bool
) -> None:
    there = kernel(
        named("mail", "mx.example", masquerade=learned_masquerades),
        served("net", "198.51.100.0/24", masquerade=prefix_masquerades),
    )
    assert there.masquerades(ALICE, SHARED) == prefix_masquerades
    learn(there, "mail", SHARED)
    assert there.masquerades(ALICE, SHARED) == learned_masquerades
    stray = there.forwards(ALICE, SHARED, state="stray")
    assert stray != learned_masquerades, "what cannot be masqueraded any more ends, and nothing else does"


def test_g10_of_two_names_on_one_address_it_is_enough_that_one_wants_it() -> None:
    there = kernel(named("mail", "mx.example", masquerade=False), named("web", "*.example", masquerade=True))
    learn(there, "mail", SHARED)
    assert not there.masquerades(ALICE, SHARED)
    learn(there, "web", SHARED)
    assert there.masquerades(ALICE, SHARED)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_d3_questions_come_in_whatever_policies_drop_from_those_the_route_is_distributed_to(proto: str) -> None:
    there = kernel(named("mail", "mx.example", distribution=("office",)))
    assert there.accepts(ALICE, proto, FORWARDER_PORT)
    assert there.accepts("fd00:64::b", proto, FORWARDER_PORT)
    assert not there.accepts(BOB, proto, FORWARDER_PORT)
    assert not there.accepts(ALICE, proto, FORWARDER_PORT + 1)
    assert not kernel(served("net", distribution=("office",))).accepts(ALICE, proto, FORWARDER_PORT)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(("port", "taken"), [(5353, True), (FORWARDER_PORT, False)])
def test_d1_questions_to_the_port_of_a_mixed_account_come_to_the_forwarder(proto: str, port: int, taken: bool) -> None:
    there = kernel(named("mail", "mx.example", distribution=("office",)), forwarder_port=port)
    for state in ("new", "established"):
        assert there.accepts(ALICE, proto, 5353, state) == taken
        assert there.accepts(ALICE, proto, FORWARDER_PORT, state)
        assert not there.accepts(BOB, proto, 5353, state)


@pytest.mark.parametrize("routes", [(), (served("net"),)])
def test_a_host_that_answers_for_no_name_has_none_of_it(routes: tuple[RouteDoc, ...]) -> None:
    there = table(*routes, forwarder_port=5353)
    assert not [one.name for one in there.sets if one.name.startswith(("learned_", "from_asking"))]
    assert "questions" not in {chain.name for chain in there.chains}


def test_where_clients_resolve_by_themselves_nothing_is_learned() -> None:
    assert not [one for one in table(MAIL, routing_peer_dns_resolution=False).sets if one.name.startswith("learned_")]


def test_a_route_keeps_its_sets_whatever_else_becomes_of_it() -> None:
    """What is in a set of that name and type is carried over."""

    def learned(*routes: RouteDoc) -> set[str]:
        return {one.name for one in table(*routes).sets if one.dynamic and one.name.startswith("learned_")}

    other = named("mail", "other.example", permit("x", "guests"), masquerade=False, metric=1)
    assert learned(MAIL) == learned(other) == learned(MAIL, WEB) - learned(WEB)


def test_a_permit_for_a_name_that_is_withdrawn_is_shut_also_where_nftables_takes_no_other_table() -> None:
    before, after = table(MAIL, WEB), table(named("mail", "mx.example", permit("m", "guests")), WEB)
    there = ObservedRuleset(shape=shape(before), elements=elements(before))
    assert not same_forward(shape(before), shape(after))
    shut = closing(after, there, input_changed=False, forward_changed=True)
    assert shut["closed_from_v4"] == {"0.0.0.0/0"}
    assert shut["closed_from_v6"] == {"::/0"}
    plain = table(served("net")), table(served("net", "10.2.0.0/16"))
    assert same_forward(*map(shape, plain))
