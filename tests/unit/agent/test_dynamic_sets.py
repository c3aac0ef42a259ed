"""Sets that somebody else fills: two names on one address stay apart, and what is not refreshed goes (A6)."""

import pytest

from services.agent.core.desired_state import Desired
from services.agent.core.firewall.ruleset import change, elements, shape
from services.agent.core.intervals import Range
from services.agent.core.kernel import Hook, Link, NftChain, NftSet, ObservedRuleset, Ruleset
from services.agent.core.reconcile.order import plan
from services.agent.core.rule import Connection, Member, Ports, Rule
from tests.fakes.kernel import FakeKernel

MAILER, READER = "100.64.0.7", "100.64.0.9"
SHARED = "192.0.2.1"
LINK = Link(name="wt0", mtu=1280, up=True, addresses=frozenset({"100.64.0.1/16"}))


def sources(name: str, address: str) -> NftSet:
    return NftSet(name=name, type="ipv4_addr", interval=False, elements=frozenset({address}))


def dynamic(name: str) -> NftSet:
    return NftSet(name=name, type="ipv4_addr", interval=False, dynamic=True)


def permit(sources: str, name: str, port: int) -> Rule:
    return Rule(
        (Member(4, "source", sources), Member(4, "destination", name), Ports("tcp", (Range(port, port),))), "accept"
    )


def ruleset(*more: Rule) -> Ruleset:
    """mail.example for one source on port 25, web.example for another on port 80."""
    return Ruleset(
        sets=(sources("from_mail", MAILER), sources("from_web", READER), dynamic("mail"), dynamic("web")),
        chains=(
            NftChain(
                name="forward",
                hook=Hook("filter", "forward", 0),
                rules=(permit("from_mail", "mail", 25), permit("from_web", "web", 80), *more, Rule((), "drop")),
            ),
        ),
    )


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel(sysctls={"net/ipv4/ip_forward": "1"})
    made.links["wt0"] = LINK
    made.ruleset = ruleset()
    return made


def test_an_address_of_two_names_is_open_to_each_ones_sources_for_its_ports_alone(kernel: FakeKernel) -> None:
    assert kernel.fill({"mail": {SHARED: 60}, "web": {SHARED: 60}}) is None
    assert kernel.forwards(MAILER, SHARED, port=25)
    assert kernel.forwards(READER, SHARED, port=80)
    assert not kernel.forwards(MAILER, SHARED, port=80)
    assert not kernel.forwards(READER, SHARED, port=25)


def test_a_name_that_moves_away_leaves_the_other_ones_permit(kernel: FakeKernel) -> None:
    kernel.fill({"mail": {SHARED: 60}, "web": {SHARED: 60}})
    kernel.passes(50)
    kernel.fill({"web": {SHARED: 60}})
    kernel.passes(50)
    assert not kernel.forwards(MAILER, SHARED, port=25)
    assert kernel.forwards(READER, SHARED, port=80)


def test_a_plan_looks_at_no_dynamic_set_and_keeps_what_is_in_it(kernel: FakeKernel) -> None:
    kernel.fill({"mail": {SHARED: 60}})
    assert plan(Desired(ruleset=ruleset(), links=kernel.links), kernel.observe()) == ()
    desired = Desired(ruleset=ruleset(Rule((Connection("related"),), "accept")), links=kernel.links)
    kernel.apply(plan(desired, kernel.observe()))
    assert kernel.ruleset == desired.ruleset
    assert kernel.forwards(MAILER, SHARED, port=25)


def test_a_set_that_becomes_dynamic_is_another_shape() -> None:
    static = Ruleset(sets=(NftSet(name="mail", type="ipv4_addr", interval=False),))
    filled = Ruleset(sets=(dynamic("mail"),))
    assert change(filled, ObservedRuleset(shape=shape(static), elements=elements(static)))
    assert elements(filled) == {}
