"""Whatever happened on the way: once everything has arrived, packets go exactly where intent says.

Gateways die, freeze, flap, lose their leg and drain, and nobody moves once nothing is wrong any more. The hosts hear
late or not at all, read slowly and from servers that are behind, lose connections, crash in the middle of a change and
are meddled with, while the account changes. In every fourth world no beacon arrives.
`just sim 100-2000` tries other worlds.
"""

import os
from itertools import permutations, product

import pytest
from msgspec.structs import replace

from services.management.core.model.commit import Commit
from shared.events.documents import ResolvedAddress, ResolvedName
from tests.builders import wireguard_key
from tests.fakes.kernel import NOBODY, OPEN
from tests.sim import reach
from tests.sim.chance import NAMES, PEERS, ROUTES, Chance, Event
from tests.sim.fates import Fate
from tests.sim.world import World, meddle

RESOLUTIONS = {
    route: tuple(ResolvedName(name, (ResolvedAddress(address, 1.0, 0.0),)) for name, address in NAMES.items())
    for route in ROUTES
}
ADDRESSES = ("10.0.0.1", "10.0.0.9", "10.0.1.1", "203.0.113.9", "2001:db8::1", "198.51.100.1")
PORTS = (1, 80, 443)
FIRST, _, LAST = os.environ.get("WHIMBREL_SIM_SEEDS", "0-99").partition("-")


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or FIRST) + 1))
def test_what_settles_is_what_intent_says(seed: int) -> None:
    chance, world = Chance(seed), World(PEERS, RESOLUTIONS, beacons=seed % 4 != 3)
    world.commit(chance.population())
    for _ in range(3):
        world.settle()
        routed_packets_go_to_a_routing_peer_that_intent_allows_c4_r5(world)
        a_routing_peer_forwards_exactly_what_intent_permits_a1_a2_a3_a7(world)
        peers_reach_each_other_exactly_as_the_policies_say_c3_a8(world)
        a_deleted_peer_holds_nothing_and_nobody_holds_it_c5(world)
        there_is_nothing_left_to_do(world)
        for event in chance.events(20):
            happen(world, event)


@pytest.mark.parametrize("seed", range(8))
def test_agents_that_freeze_for_a_while_move_nobody(seed: int) -> None:
    chance, world = Chance(seed), World(PEERS, RESOLUTIONS)
    world.commit(chance.population())
    world.settle()
    before = {name: list(host.switches) for name, host in world.hosts.items()}
    for name in PEERS:
        befall(world, name, "frozen")
    world.let_pass(55.0, hearing=True)
    for name in PEERS:
        befall(world, name, "nothing")
    world.settle()
    assert {name: host.switches for name, host in world.hosts.items()} == before


def happen(world: World, event: Event) -> None:
    match event:
        case ("commit", Commit() as change):
            world.commit(change)
        case ("hear", name, count):
            world.hosts[name].hear(count)
        case ("read", name, count):
            world.hosts[name].read(count)
        case ("work", name, steps):
            world.hosts[name].work(steps)
        case ("miss", name):
            world.hosts[name].miss()
        case ("lose", name):
            world.hosts[name].disconnect()
        case ("return", name, spread):
            world.hosts[name].connect(world.state, spread=spread)
        case ("deafen", name):
            world.hosts[name].deafen()
        case ("overrun", name):
            world.hosts[name].overrun()
        case ("elect",):
            world.elect()
        case ("stall", name):
            world.hosts[name].stall()
        case ("catch up", name):
            world.hosts[name].catch_up()
        case ("pass", seconds):
            world.let_pass(seconds)
        case ("crash", name):
            world.hosts[name].crash()
        case ("meddle", name, what):
            meddle(world.hosts[name].kernel, what)
        case ("expire",):
            world.expire()
        case ("befall", name, blow):
            befall(world, name, blow)
        case ("flap", name, times):
            for _ in range(times):
                befall(world, name, "dead")
                world.let_pass(0.7)
                befall(world, name, "nothing")
                world.let_pass(0.7)


def befall(world: World, name: str, blow: str) -> None:
    """nothing: the host is well again."""
    fate = world.fate(name)
    match blow:
        case "dead":
            fate = replace(fate, dead_since=world.now if fate.dead_since is None else fate.dead_since)
        case "frozen" | "legless" | "draining":
            fate = replace(fate, **{blow: True})
        case "nothing":
            fate = Fate()
    world.befall(name, fate)


def routed_packets_go_to_a_routing_peer_that_intent_allows_c4_r5(world: World) -> None:
    fates = {name: world.fate(name) for name in PEERS}
    for client, address in product(world.state.peers.values(), ADDRESSES):
        if world.fate(client.id).dead_since is not None:
            continue
        right = {wireguard_key(peer) for peer in reach.right_routing_peers(world.state, fates, client, address, NAMES)}
        assert world.hosts[client.id].kernel.where(address) in (right or {OPEN}), (client.id, address)


def a_routing_peer_forwards_exactly_what_intent_permits_a1_a2_a3_a7(world: World) -> None:
    state = world.state
    for gateway, source, address, port in product(state.peers.values(), state.peers.values(), ADDRESSES, PORTS):
        if reach.connected(state, gateway, source):
            sender = source.address_v6 if ":" in address else source.address_v4
            passes = world.hosts[gateway.id].kernel.forwards(sender, address, "tcp", port)
            right = reach.forwards(state, gateway, source, address, port, NAMES)
            assert passes == right, (gateway.id, source.id, address, port)


def peers_reach_each_other_exactly_as_the_policies_say_c3_a8(world: World) -> None:
    state = world.state
    for one, other in permutations(state.peers.values(), 2):
        found = world.hosts[one.id].kernel.where(other.address_v4)
        assert found == (wireguard_key(other.id) if reach.connected(state, one, other) else NOBODY)
        for port, address in product(PORTS, (one.address_v4, one.address_v6)):
            taken = world.hosts[other.id].kernel.accepts(address, "tcp", port)
            assert taken == reach.accepts(state, one, other, port), (one.id, other.id, port)


def a_deleted_peer_holds_nothing_and_nobody_holds_it_c5(world: World) -> None:
    gone = set(PEERS) - set(world.state.peers)
    for name, host in world.hosts.items():
        assert not {wireguard_key(other) for other in gone} & set(host.kernel.peers)
        if name in gone:
            assert (host.kernel.peers, host.kernel.routes) == ({}, {})


def there_is_nothing_left_to_do(world: World) -> None:
    before = {name: host.kernel.observe() for name, host in world.hosts.items()}
    switches = {name: len(host.switches) for name, host in world.hosts.items()}
    world.settle()
    assert {name: len(host.switches) for name, host in world.hosts.items()} == switches
    assert {name: host.kernel.observe() for name, host in world.hosts.items()} == before
