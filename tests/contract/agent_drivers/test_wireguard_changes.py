"""drivers/wireguard/changes.py: carried out step by step on a device as WireGuard defines it."""

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.kernel import WireGuardPeer
from services.agent.drivers.wireguard.changes import after, plan

PEERS = ("A", "B", "C")
IPS = tuple(f"10.{number}.0.0/16" for number in range(6))

owners = st.fixed_dictionaries({}, optional={ip: st.sampled_from(PEERS) for ip in IPS})
"""Allowed IP → peer: each has one owner or none, and not every peer has one."""


def lists(owner: dict[str, str], peers: tuple[str, ...]) -> dict[str, frozenset[str]]:
    return {peer: frozenset(ip for ip, its in owner.items() if its == peer) for peer in peers}


@given(owners, owners, st.permutations(PEERS), st.sets(st.sampled_from(PEERS)))
def test_the_device_ends_as_wanted_and_what_is_kept_or_moves_always_has_an_owner(
    before: dict[str, str], wanted: dict[str, str], order: list[str], unknown: set[str]
) -> None:
    """Decision G5. unknown: peers that the device does not have yet."""
    device = {ip: peer for ip, peer in before.items() if peer not in unknown}
    held = {peer: ips for peer, ips in lists(device, PEERS).items() if peer not in unknown}
    desired = lists(wanted, PEERS)
    entries = {peer: WireGuardPeer(public_key=peer, allowed_ips=desired[peer]) for peer in order}
    kept = device.keys() & wanted.keys()
    for change in plan(entries, held):
        assert not change.replace
        if change.remove:
            assert change.public_key not in PEERS
            device = {ip: peer for ip, peer in device.items() if peer != change.public_key}
        for ip in change.add:
            device[ip] = change.public_key
        assert kept <= {ip for ip, peer in device.items() if peer in PEERS}
    assert device == wanted
    assert after(entries, held) == desired


def test_what_is_not_part_of_the_change_keeps_what_nobody_takes() -> None:
    held = {"A": frozenset({"10.0.0.0/16", "10.1.0.0/16"}), "B": frozenset[str]()}
    entries = {"B": WireGuardPeer(public_key="B", allowed_ips=frozenset({"10.1.0.0/16"}))}
    assert after(entries, held) == {"A": {"10.0.0.0/16"}, "B": {"10.1.0.0/16"}}


def test_where_nothing_is_lost_there_is_no_decoy() -> None:
    held = {"A": frozenset({"10.0.0.0/16"})}
    entries = {"A": WireGuardPeer(public_key="A", allowed_ips=frozenset({"10.0.0.0/16", "10.1.0.0/16"}))}
    assert [(change.public_key, change.add) for change in plan(entries, held)] == [("A", ("10.1.0.0/16",))]
