"""A plan carried out on a kernel in memory, wholly or up to any step."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.agent.core.desired_state import Desired, Observed
from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import Elements, Replace, elements, shape
from services.agent.core.kernel import Link, ObservedRuleset, RouteEntry, RuleEntry, WireGuardPeer
from services.agent.core.reconcile.desired import Local, desired
from services.agent.core.reconcile.order import plan
from services.agent.core.reconcile.peers import same_peer
from services.agent.core.reconcile.sysctls import journal
from tests.fakes.kernel import NOBODY, OPEN, UNREACHABLE, FakeKernel
from tests.property.agent import worlds
from tests.unit.agent.make import key

SYSCTLS = {
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/forwarding": "0",
    "net/ipv4/conf/all/src_valid_mark": "0",
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv6/conf/eth0/accept_ra": "1",
}
CLOSED = {NOBODY, UNREACHABLE}


def kernel_with(want: Desired) -> FakeKernel:
    kernel = FakeKernel(sysctls=SYSCTLS)
    kernel.apply(plan(want, kernel.observe()))
    return kernel


def places(kernel: FakeKernel) -> dict[str, str]:
    return {address: kernel.where(address) for address in (*worlds.ADDRESSES, "198.51.100.1", "100.64.0.11")}


def allowed(kernel: FakeKernel) -> set[tuple[str, str]]:
    return {(key, prefix) for key, peer in kernel.peers.items() for prefix in peer.allowed_ips}


def passing(kernel: FakeKernel, *more: str) -> set[tuple[str, str, str]]:
    """What gets through this host or to it, of a sample. more: destinations besides."""
    sources = [f"100.64.0.{10 + number}" for number in range(4)] + [f"fd00:64::{10 + number:x}" for number in range(4)]
    return {
        (src, dst, proto)
        for src in sources
        for proto, port in (("tcp", 22), ("udp", 80))
        for dst in (*worlds.ADDRESSES[:9], *worlds.ADDRESSES[-6:], *more, "here")
        if dst == "here" or (":" in dst) == (":" in src)
        if (kernel.accepts(src, proto, port) if dst == "here" else kernel.forwards(src, dst, proto, port))
    }


def agrees(want: Desired, kernel: FakeKernel) -> bool:
    """Whether the kernel holds what is wanted, compared entry by entry; the ids that rules come from are not in it."""
    assert want.ruleset is not None
    return (
        kernel.links == want.links
        and kernel.devices == want.devices
        and kernel.routes == want.routes
        and kernel.rules == want.rules
        and kernel.observe().ruleset == ObservedRuleset(shape=shape(want.ruleset), elements=elements(want.ruleset))
        and kernel.peers.keys() == want.peers.keys()
        and all(same_peer(peer, kernel.peers[public_key]) for public_key, peer in want.peers.items())
        and all(kernel.sysctls[path] == entry.value for path, entry in want.sysctls.items())
    )


@given(worlds.hosts(), worlds.hosts())
def test_a_plan_reaches_what_is_desired_and_then_has_nothing_to_do(
    before: tuple[Documents, Local], after: tuple[Documents, Local]
) -> None:
    kernel = kernel_with(desired(*before))
    want = desired(*after)
    kernel.apply(plan(want, kernel.observe()))
    assert agrees(want, kernel)
    assert plan(want, kernel.observe()) == ()


@given(worlds.hosts(), worlds.hosts())
def test_no_step_is_more_open_than_before_or_after(
    before: tuple[Documents, Local], after: tuple[Documents, Local]
) -> None:
    kernel = kernel_with(desired(*before))
    end = kernel_with(desired(*before))
    steps = plan(desired(*after), kernel.observe())
    end.apply(steps)
    routed, let_through = (places(kernel), places(end)), passing(kernel) | passing(end)
    for step in steps:
        kernel.apply([step])
        for address, place in places(kernel).items():
            assert place in {routed[0][address], routed[1][address]} | CLOSED, (address, step)
        assert passing(kernel) <= let_through, step


@given(worlds.hosts(), worlds.hosts())
def test_a_ruleset_that_is_refused_lets_nothing_new_through(
    before: tuple[Documents, Local], after: tuple[Documents, Local]
) -> None:
    kernel, end = kernel_with(desired(*before)), kernel_with(desired(*before))
    former, let_through, given_before = places(kernel), passing(kernel), allowed(kernel)
    want = desired(*after)
    steps = plan(want, kernel.observe())
    end.apply(steps)
    later = places(end)
    if not any(isinstance(step, Replace | Elements) for step in steps):
        return
    kernel.apply(steps, refuse_ruleset=True)
    assert passing(kernel) <= let_through
    assert allowed(kernel) <= given_before
    assert kernel.peers.keys() <= want.peers.keys(), "a peer that is to go always goes"
    for address, place in places(kernel).items():
        assert place != OPEN or OPEN in (former[address], later[address]), address


@given(worlds.hosts())
def test_a_host_without_link_stays_without_when_its_ruleset_is_refused(world: tuple[Documents, Local]) -> None:
    kernel = FakeKernel(sysctls=SYSCTLS)
    kernel.apply(plan(desired(*world), kernel.observe()), refuse_ruleset=True)
    assert (kernel.links, kernel.routes, kernel.rules, kernel.sysctls) == ({}, {}, {}, SYSCTLS)


@given(worlds.hosts())
def test_a_stop_leaves_the_host_as_it_was(world: tuple[Documents, Local]) -> None:
    kernel = FakeKernel(sysctls=SYSCTLS)
    want = desired(*world)
    originals = journal({}, want.sysctls, kernel.observe().sysctls)
    kernel.apply(plan(want, kernel.observe()))
    through = passing(kernel)
    for step in plan(Desired(), kernel.observe(), originals=originals):
        kernel.apply([step])
        assert passing(kernel) <= through
    assert kernel.observe() == replace(Observed(), sysctls=kernel.observe().sysctls)
    assert kernel.sysctls == SYSCTLS
    assert plan(Desired(), kernel.observe(), originals=originals) == ()


@st.composite
def anything(draw: st.DrawFn) -> Observed:
    """State as a crash, another tool or a former version may have left it."""
    names = [key(name) for name in ("p1", "p2", "p3", "stranger")]
    prefixes = draw(st.lists(st.sampled_from([p for p in worlds.PREFIXES if "/" in p]), unique=True))
    peers = {
        name: WireGuardPeer(public_key=name, allowed_ips=frozenset(prefixes[number::4]), endpoint="192.0.2.77:1")
        for number, name in enumerate(names[: draw(st.integers(0, 4))])
    }
    routes = {
        prefix: RouteEntry(prefix=prefix, device="" if unreachable else "wt0", unreachable=unreachable)
        for prefix, unreachable in draw(st.dictionaries(st.sampled_from(worlds.PREFIXES[:9]), st.booleans())).items()
    }
    rules = [RuleEntry(family="v4", priority=number, table=7120) for number in draw(st.sets(st.integers(104, 111)))]
    links = [Link(name="wt0", mtu=1280, up=False, addresses=frozenset({"100.64.0.9/16"}))]
    return Observed(
        links={link.name: link for link in links if draw(st.booleans())},
        peers=peers,
        routes=routes,
        rules={(rule.family, rule.priority): rule for rule in rules},
    )


@given(anything(), worlds.hosts())
def test_whatever_is_found_becomes_what_is_desired(found: Observed, world: tuple[Documents, Local]) -> None:
    kernel = FakeKernel(found, sysctls=SYSCTLS)
    want = desired(*world)
    kernel.apply(plan(want, kernel.observe()))
    assert agrees(want, kernel)
    assert plan(want, kernel.observe()) == ()


@given(worlds.hosts())
def test_the_same_input_gives_the_same_state(world: tuple[Documents, Local]) -> None:
    assert desired(*world) == desired(*world)


@given(worlds.hosts())
def test_routing_peers_fed_back_as_incumbents_change_nothing(world: tuple[Documents, Local]) -> None:
    documents, local = world
    once = desired(documents, local)
    assert desired(documents, replace(local, routing_peers=once.routing_peers)) == once


@given(worlds.hosts())
def test_no_prefix_belongs_to_two_peers_and_none_of_them_to_the_host(world: tuple[Documents, Local]) -> None:
    documents, local = world
    want = desired(documents, local)
    prefixes = [prefix for peer in want.peers.values() for prefix in peer.allowed_ips]
    assert len(prefixes) == len(set(prefixes))
    assert not {"100.64.0.1/32", "fd00:64::1/128"} & set(prefixes)
    assert local.public_key not in want.peers


@given(worlds.hosts())
def test_every_installed_route_has_a_peer_or_is_unreachable(world: tuple[Documents, Local]) -> None:
    want = desired(*world)
    owned = {prefix for peer in want.peers.values() for prefix in peer.allowed_ips}
    assert all(route.unreachable or prefix in owned for prefix, route in want.routes.items())
