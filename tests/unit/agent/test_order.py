"""The order of changes, step by step."""

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from services.agent.core.desired_state import Desired, Observed
from services.agent.core.firewall.ruleset import Elements, Replace
from services.agent.core.kernel import RouteEntry, SysctlEntry, WireGuardPeer
from services.agent.core.reconcile.delta import Delta, delta
from services.agent.core.reconcile.desired import desired
from services.agent.core.reconcile.order import plan
from services.agent.core.reconcile.steps import Delete, Destroy, Step, Upsert
from services.agent.core.reconcile.sysctls import desired_sysctls, journal, restored, settled, watched
from services.agent.core.routing.hagroups import HaKey
from tests.fakes.kernel import FakeKernel
from tests.unit.agent import make


def words(steps: Iterable[Step]) -> list[str]:
    """Each step as "verb kind key…"."""
    found = []
    for step in steps:
        match step:
            case Upsert():
                found.append(" ".join(("put", step.kind, *map(str, step.entries))))
            case Delete():
                found.append(" ".join(("delete", step.kind, *map(str, step.keys))))
            case Replace():
                found.append("replace table")
            case Elements():
                found.append("change table")
            case Destroy():
                found.append("destroy table")
    return found


def peer(name: str, *allowed: str, endpoint: str = "") -> dict[str, WireGuardPeer]:
    return {name: WireGuardPeer(public_key=name, allowed_ips=frozenset(allowed), endpoint=endpoint)}


def route(prefix: str, device: str = "wt0") -> dict[str, RouteEntry]:
    return {prefix: RouteEntry(prefix=prefix, device=device, unreachable=not device)}


@pytest.mark.parametrize(
    ("desired", "observed", "upserts", "deletes"),
    [
        ({}, {}, {}, ()),
        ({"a": 1}, {}, {"a": 1}, ()),
        ({}, {"a": 1}, {}, ("a",)),
        ({"a": 1}, {"a": 1}, {}, ()),
        ({"a": 2, "b": 1}, {"a": 1, "c": 1, "b": 1}, {"a": 2}, ("c",)),
    ],
)
def test_a_delta_is_what_is_missing_or_differs_and_what_is_too_much(
    desired: dict[str, int], observed: dict[str, int], upserts: dict[str, int], deletes: tuple[str, ...]
) -> None:
    assert delta(desired, observed) == Delta(upserts, deletes)
    assert bool(delta(desired, observed)) is bool(upserts or deletes)


def test_a_start_opens_from_the_inside_outwards() -> None:
    there = make.documents(None, [make.peer("gw", number=2)], routes=[make.route("r1", "0.0.0.0/0")])
    want = desired(there, make.local(["gw"]))
    assert words(plan(want, Observed())) == [
        "replace table",
        "put link wt0",
        "put device wt0",
        "put sysctl net/ipv4/conf/all/src_valid_mark",
        f"put peer {make.key('gw')}",
        "put rule ('v4', 105) ('v4', 110) ('v4', 115) ('v6', 105) ('v6', 110) ('v6', 115)",
        "put route ::/0 0.0.0.0/0",
    ]


def test_a_stop_closes_in_reverse_and_the_table_goes_last() -> None:
    there = make.documents(None, [make.peer("gw", number=2)], routes=[make.route("r1", "0.0.0.0/0")])
    want = desired(there, make.local(["gw"]))
    kernel = FakeKernel(sysctls={"net/ipv4/conf/all/src_valid_mark": "0"})
    originals = journal({}, want.sysctls, kernel.observe().sysctls)
    kernel.apply(plan(want, kernel.observe()))
    assert words(plan(Desired(), kernel.observe(), originals=originals)) == [
        "delete route 0.0.0.0/0 ::/0",
        "delete rule ('v4', 105) ('v4', 110) ('v4', 115) ('v6', 105) ('v6', 110) ('v6', 115)",
        f"delete peer {make.key('gw')}",
        "put sysctl net/ipv4/conf/all/src_valid_mark",
        "delete link wt0",
        "destroy table",
    ]


def test_nothing_to_do_is_no_step() -> None:
    assert plan(Desired(), Observed()) == ()


def test_a_moved_prefix_is_given_to_its_new_peer_and_the_old_one_is_left_alone() -> None:
    before = Observed(peers=peer("a", "100.64.0.2/32", "10.1.0.0/16") | peer("b", "100.64.0.3/32"))
    after = Desired(peers=peer("a", "100.64.0.2/32") | peer("b", "100.64.0.3/32", "10.1.0.0/16"))
    assert plan(after, before) == (Upsert("peer", peer("b", "100.64.0.3/32", "10.1.0.0/16"), opens=True),)


def test_another_decision_is_one_write_of_one_peer_g5() -> None:
    both = make.documents(peers=[make.peer("a"), make.peer("b")], routes=[make.route("r", by=("a", "b"))])
    key: HaKey = ("r", "10.1.0.0/16", ())
    before, after = (desired(both, make.local("ab", decisions={key: name})) for name in "ab")
    found = FakeKernel()
    found.apply(plan(before, found.observe()))
    assert words(plan(after, found.observe())) == [f"put peer {make.key('b')}"]


def test_prefixes_that_change_places_move_in_one_step() -> None:
    before = Observed(peers=peer("a", "10.1.0.0/16", "10.3.0.0/16") | peer("b", "10.2.0.0/16"))
    after = Desired(peers=peer("a", "10.2.0.0/16") | peer("b", "10.1.0.0/16"))
    kernel = FakeKernel(before)
    steps = plan(after, before)
    assert words(steps) == ["put peer a b", "put peer a"]
    kernel.apply(steps)
    assert kernel.peers == dict(after.peers)


def test_a_prefix_nobody_takes_over_is_withdrawn_after_its_route() -> None:
    before = Observed(peers=peer("a", "100.64.0.2/32", "10.1.0.0/16"), routes=route("10.1.0.0/16"))
    after = Desired(peers=peer("a", "100.64.0.2/32"))
    assert words(plan(after, before)) == ["delete route 10.1.0.0/16", "put peer a"]


def test_a_prefix_is_a_peers_before_it_is_routed_and_new_routes_come_before_old_ones_go() -> None:
    before = Observed(peers=peer("a", "10.0.0.0/8"), routes=route("10.0.0.0/8"))
    after = Desired(peers=peer("a", "10.1.0.0/16"), routes=route("10.1.0.0/16"))
    assert plan(after, before) == (
        Upsert("peer", peer("a", "10.0.0.0/8", "10.1.0.0/16"), opens=True),
        Upsert("route", route("10.1.0.0/16"), opens=True),
        Delete("route", ("10.0.0.0/8",), opens=True),
        Upsert("peer", peer("a", "10.1.0.0/16"), opens=True),
    )


def test_of_allowed_ips_that_go_the_wide_one_goes_before_what_lies_in_it_at_another_peer() -> None:
    """Packets for 10.1.0.0/16 go from b into the exit of b, and to a never."""
    before = Observed(peers=peer("a", "10.0.0.0/8") | peer("b", "10.1.0.0/16") | peer("c", "10.1.2.0/24"))
    after = Desired(peers=peer("a") | peer("b", "0.0.0.0/0"))
    assert plan(after, before) == (
        Upsert("peer", peer("b", "10.1.0.0/16", "0.0.0.0/0"), opens=True),
        Upsert("peer", peer("a"), opens=False),
        Upsert("peer", peer("b", "0.0.0.0/0"), opens=True),
        Delete("peer", ("c",), opens=False),
    )


def test_an_exit_that_closes_is_replaced_and_never_removed_r2() -> None:
    before = Observed(routes=route("0.0.0.0/0"))
    assert plan(Desired(routes=route("0.0.0.0/0", "")), before) == (
        Upsert("route", route("0.0.0.0/0", ""), opens=True),
    )


@pytest.mark.parametrize(
    ("wanted", "found", "written"),
    [("", "192.0.2.9:7", False), ("192.0.2.9:7", "192.0.2.9:7", False), ("192.0.2.9:7", "", True), ("", "", False)],
)
def test_an_endpoint_is_written_only_when_one_is_desired(wanted: str, found: str, written: bool) -> None:
    after, before = Desired(peers=peer("a", endpoint=wanted)), Observed(peers=peer("a", endpoint=found))
    assert bool(plan(after, before)) is written


def test_a_reset_removes_the_peer_and_adds_it_with_everything() -> None:
    there = peer("a", "10.1.0.0/16", endpoint="192.0.2.9:7") | peer("b")
    steps = plan(Desired(peers=there), Observed(peers=there), resets=["a"])
    assert steps == (
        Delete("peer", ("a",), opens=True),
        Upsert("peer", peer("a", "10.1.0.0/16", endpoint="192.0.2.9:7"), opens=True),
    )


def test_a_reset_of_a_peer_that_has_a_session_meanwhile_is_left_out() -> None:
    there = peer("a", "10.1.0.0/16")
    assert plan(Desired(peers=there), Observed(peers=peer("a", "10.1.0.0/16", endpoint="x")), resets=["a"]) == ()


def test_a_reset_of_a_peer_that_is_not_there_is_an_upsert() -> None:
    assert plan(Desired(peers=peer("a")), Observed(), resets=["a"]) == (Upsert("peer", peer("a"), opens=True),)
    assert plan(Desired(), Observed(), resets=["a"]) == ()


def test_a_table_that_someone_flushed_is_written_again_first() -> None:
    want = desired(make.documents(), make.local())
    kernel = FakeKernel()
    kernel.apply(plan(want, Observed()))
    kernel.ruleset = None
    assert words(plan(want, kernel.observe())) == ["replace table"]


CURRENT = {
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/forwarding": "0",
    "net/ipv4/conf/all/src_valid_mark": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/eth0/rp_filter": "1",
    "net/ipv4/conf/eth1.10/rp_filter": "2",
    "net/ipv6/conf/eth0/accept_ra": "1",
    "net/ipv6/conf/eth1.10/accept_ra": "0",
}
ALWAYS = {"net/ipv4/conf/all/src_valid_mark": "1", "net/ipv4/conf/eth0/rp_filter": "2"}


@pytest.mark.parametrize(
    ("v4", "v6", "more"),
    [
        (False, False, {}),
        (True, False, {"net/ipv4/ip_forward": "1"}),
        (False, True, {"net/ipv6/conf/all/forwarding": "1", "net/ipv6/conf/eth0/accept_ra": "2"}),
    ],
)
def test_settings_are_those_that_routing_needs(v4: bool, v6: bool, more: dict[str, str]) -> None:
    found = desired_sysctls(forward_v4=v4, forward_v6=v6, current=CURRENT, originals={})
    assert {path: entry.value for path, entry in found.items()} == ALWAYS | more


def test_router_advertisements_are_secured_before_forwarding_is_switched_on() -> None:
    paths = list(desired_sysctls(forward_v4=False, forward_v6=True, current=CURRENT, originals={}))
    assert paths.index("net/ipv6/conf/eth0/accept_ra") < paths.index("net/ipv6/conf/all/forwarding")


def test_a_router_does_not_begin_to_accept_router_advertisements() -> None:
    router = CURRENT | {"net/ipv6/conf/all/forwarding": "1"}
    found = desired_sysctls(forward_v4=False, forward_v6=True, current=router, originals={})
    assert not [path for path in found if "accept_ra" in path]
    by_us = desired_sysctls(
        forward_v4=False, forward_v6=True, current=router, originals={"net/ipv6/conf/all/forwarding": "0"}
    )
    assert by_us["net/ipv6/conf/eth0/accept_ra"].value == "2"


def test_a_setting_that_was_changed_stays_desired_by_what_it_was() -> None:
    changed = CURRENT | {"net/ipv4/conf/eth0/rp_filter": "2"}
    found = desired_sysctls(
        forward_v4=False, forward_v6=False, current=changed, originals={"net/ipv4/conf/eth0/rp_filter": "1"}
    )
    assert found["net/ipv4/conf/eth0/rp_filter"].value == "2"


def test_settings_of_an_interface_that_is_gone_are_not_desired() -> None:
    found = desired_sysctls(
        forward_v4=False, forward_v6=False, current={}, originals={"net/ipv4/conf/eth0/rp_filter": "1"}
    )
    assert found.keys() == {"net/ipv4/conf/all/src_valid_mark"}


def entries(values: dict[str, str]) -> dict[str, SysctlEntry]:
    return {path: SysctlEntry(path=path, value=value) for path, value in values.items()}


def test_the_journal_keeps_the_first_value_and_only_of_what_is_changed() -> None:
    want = entries({"a": "1", "b": "1", "c": "1"})
    assert journal({"a": "0"}, want, entries({"a": "7", "b": "5", "c": "1"})) == {"a": "0", "b": "5"}


def test_what_is_no_longer_wanted_gets_its_value_back_once() -> None:
    originals, now = {"a": "0", "b": "0", "gone": "0"}, entries({"a": "1", "b": "1"})
    assert restored(originals, entries({"b": "1"}), now) == entries({"a": "0"})
    assert settled(originals, entries({"b": "1"}), now) == {"a": "0", "b": "0"}
    assert settled(originals, entries({"b": "1"}), entries({"a": "0", "b": "1"})) == {"b": "0"}


def test_loopback_and_the_overlays_interface_are_left_alone() -> None:
    assert [path for path in watched(["lo", "wt0", "eth0"], "wt0") if "/lo/" in path or "/wt0/" in path] == []
    assert {"net/ipv4/conf/eth0/rp_filter", "net/ipv6/conf/eth0/accept_ra", "net/ipv4/ip_forward"} <= set(
        watched(["lo", "wt0", "eth0"], "wt0")
    )


@pytest.mark.parametrize(
    ("routes", "forwarding"),
    [
        ([], set()),
        ([make.served("r1")], {"net/ipv4/ip_forward"}),
        ([make.served("r1", "2001:db8::/32")], {"net/ipv6/conf/all/forwarding"}),
        ([make.served("r1", permits=())], {"net/ipv4/ip_forward"}),
        ([make.route("r1")], set()),
    ],
)
def test_forwarding_is_on_for_the_families_that_are_served(routes: list[object], forwarding: set[str]) -> None:
    want = desired(make.documents(routes=routes), make.local())  # type: ignore[arg-type]
    assert {path for path in want.sysctls if "forward" in path} == forwarding


def test_a_host_without_documents_has_a_device_and_nothing_else_that_is_open() -> None:
    there = make.documents()
    want = desired(replace(there, self_doc=None), make.local())
    assert want.links["wt0"].addresses == frozenset()
    assert (want.peers, want.routes) == ({}, {})
    assert want.ruleset is not None
