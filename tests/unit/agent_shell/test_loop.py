"""The loop on a kernel in memory: what fails stays dirty and stops nothing else, and nobody is asked in vain."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from services.agent.cells import Cell, counted
from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.kernel import PeerStats, RouteEntry
from services.agent.core.reconcile.desired import Local
from services.agent.core.reconcile.steps import RULESET, Kind
from services.agent.core.reconcile.tables import KINDS
from services.agent.loop.kernel import WAITS
from services.agent.loop.loop import Loop, _drifts
from services.agent.situation import PassResult, Situation, Tunnels
from shared.events.documents import PeerDoc, RouteDoc, SelfDoc, SettingsDoc
from tests.support.bus import eventually
from tests.unit.agent_shell.drivers import Memory


def key(name: str) -> str:
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


SETTINGS = SettingsDoc(
    overlay_v4="100.64.0.0/16",
    overlay_v6="",
    dns_domain="wb.test",
    forwarder_port=22054,
    routing_peer_dns_resolution=True,
)
ME = SelfDoc(
    peer_id="me",
    name="me",
    fqdn="me.wb.test",
    wireguard_key=key("me"),
    address_v4="100.64.0.1",
    address_v6="",
    groups=("all",),
    audiences=("g.all", "p.me"),
)
GATEWAY = PeerDoc(
    peer_id="gw",
    name="gw",
    fqdn="gw.wb.test",
    wireguard_key=key("gw"),
    address_v4="100.64.0.2",
    address_v6="",
    groups=("all",),
    version="1.0.0",
)


def route(number: int) -> RouteDoc:
    return RouteDoc(
        route_id=f"r{number}",
        network_id=f"net{number}",
        network=f"10.{number}.0.0/16",
        domains=(),
        metric=100,
        masquerade=True,
        keep_route=False,
        skip_auto_apply=False,
        routing_peers=("gw",),
        distribution=("all",),
        permits=None,
    )


def documents(revision: int, *routes: int) -> Documents:
    return Documents(
        revision=revision,
        self_doc=ME,
        settings=SETTINGS,
        peers={"gw": parsed.peer(GATEWAY)},
        routes={f"r{number}": parsed.route(route(number)) for number in routes},
    )


class Kept:
    def __init__(self) -> None:
        self.value: dict[str, str] = {}
        self.history: list[dict[str, str]] = []

    def keep(self, value: dict[str, str]) -> None:
        if value != self.value:
            self.value = value
            self.history.append(value)


class Passes(Cell[PassResult]):
    """count: how many passes there were."""

    def __init__(self, value: PassResult) -> None:
        super().__init__(value)
        self.count = 0

    def set(self, value: PassResult) -> None:
        self.count += 1
        super().set(value)


class World:
    """A loop on a kernel in memory."""

    def __init__(self, kernel: Memory) -> None:
        self.kernel = kernel
        self.originals = Kept()
        local = Local(public_key=key("me"), listen_port=51820, ipv6=False)
        self.situation = Situation(local, documents(1, 1))
        self.situation.passed = self._passes = Passes(PassResult(local=local))
        self.loop = Loop(self.situation, kernel.drivers(), self.originals)

        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.loop.run())

    def want(self, revision: int, *routes: int) -> None:
        self.situation.documents.set(documents(revision, *routes))

    def dirty(self, *kinds: Kind) -> None:
        """Others may have changed this; nothing named: everything."""
        told = self.situation.dirty
        told.set(counted(told.value, kinds or KINDS))

    async def another_pass(self) -> None:
        before = self.passes
        await eventually(lambda: self.passes > before)

    @property
    def passes(self) -> int:
        return self._passes.count

    @property
    def passed(self) -> PassResult:
        return self.situation.passed.value

    @property
    def routes(self) -> set[str]:
        return set(self.kernel.routes.entries)

    @property
    def applied(self) -> int:
        return self.passed.applied_revision

    def connect(self) -> None:
        """The gateway has a WireGuard session."""
        self.situation.tunnels.set(Tunnels(endpoints={key("gw"): "192.0.2.1:1"}, connected=frozenset({key("gw")})))

    def count(self) -> None:
        """Somebody reads what the device counts."""
        held = self.kernel.device.peers.entries
        counters = {
            name: PeerStats(endpoint="", last_handshake=1.0, rx_bytes=1, tx_bytes=1, allowed_ips=peer.allowed_ips)
            for name, peer in held.items()
        }
        self.situation.counters.set(counters)

    def lose(self) -> None:
        """The session with the gateway is gone, and a handshake shall go out at once."""
        tunnels = self.situation.tunnels
        tunnels.set(Tunnels(endpoints=tunnels.value.endpoints, resets=counted(tunnels.value.resets, [key("gw")])))


@pytest.fixture
async def still() -> AsyncIterator[World]:
    """A world whose loop does not run yet."""
    world = World(Memory({"net/ipv4/conf/all/src_valid_mark": "0"}))
    world.connect()
    yield world
    if world.running is not None:
        world.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await world.running


@pytest.fixture
async def world(still: World) -> World:
    """A world in step."""
    still.start()
    await eventually(lambda: still.applied == 1)
    return still


async def test_the_kernel_becomes_what_the_documents_say(world: World) -> None:
    await eventually(lambda: world.applied == 1)
    assert world.routes == {"10.1.0.0/16"}
    assert world.kernel.device.peers.entries[key("gw")].allowed_ips == {"100.64.0.2/32", "10.1.0.0/16"}
    world.want(2, 2)
    await eventually(lambda: world.applied == 2)
    assert world.routes == {"10.2.0.0/16"}


async def test_an_entry_that_fails_stops_no_other_and_stays_pending(world: World) -> None:
    world.kernel.routes.refused = {"10.2.0.0/16": "File exists"}
    world.want(2, 1, 2, 3)
    await eventually(lambda: world.routes == {"10.1.0.0/16", "10.3.0.0/16"} and world.passed.pending)
    assert world.passed.pending == {"route 10.2.0.0/16": "File exists"}
    assert world.applied < 2


async def test_what_failed_is_tried_again_until_it_works(still: World) -> None:
    still.kernel.routes.refused = {"10.1.0.0/16": "Network is down"}
    still.start()
    await eventually(lambda: still.passed.pending)
    writes = still.kernel.routes.writes
    still.kernel.routes.refused = {}
    await eventually(lambda: still.applied == 1, within_s=3.0)
    assert still.kernel.routes.writes == writes + 1
    assert still.passed.pending == {}


async def test_what_failed_is_not_tried_again_with_every_change(still: World) -> None:
    still.kernel.routes.refused = {"10.1.0.0/16": "no"}
    still.start()
    await eventually(lambda: still.passed.pending)
    writes, passes = still.kernel.routes.writes, still.passes
    for revision in range(2, 8):
        still.want(revision, 1)
        await still.another_pass()
    assert still.passes >= passes + 6
    assert still.kernel.routes.writes - writes <= 1


async def test_another_value_for_what_failed_is_tried_at_once(still: World) -> None:
    still.kernel.device.peers.refused = {key("gw"): "no"}
    still.start()
    await eventually(lambda: still.passed.pending)
    still.kernel.device.peers.refused = {}
    still.want(2, 1, 2)
    await still.another_pass()
    assert key("gw") in still.kernel.device.peers.entries


async def test_nothing_opens_while_the_ruleset_fails(world: World) -> None:
    world.kernel.nft.ruleset = None
    world.kernel.nft.refused = "Operation not supported"
    world.dirty("ruleset")
    world.want(2, 1, 2)
    await eventually(lambda: world.passed.errors.get(RULESET))
    assert world.routes == {"10.1.0.0/16"}
    assert world.passed.pending["route 10.2.0.0/16"] == WAITS
    world.kernel.nft.refused = ""
    await eventually(lambda: world.applied == 2, within_s=3.0)
    assert world.routes == {"10.1.0.0/16", "10.2.0.0/16"}


async def test_a_failing_ruleset_is_not_asked_in_a_loop(still: World) -> None:
    still.kernel.nft.refused = "no"
    still.start()
    await eventually(lambda: still.passed.errors.get(RULESET))
    before = still.passes
    await asyncio.sleep(0.2)
    assert still.passes - before <= 1


async def test_applied_means_read_back(still: World) -> None:
    still.kernel.routes.lost = {"10.1.0.0/16"}
    still.start()
    await eventually(lambda: still.passed.pending)
    assert still.passed.pending == {"route 10.1.0.0/16": "reads back differently from what was written"}
    assert still.applied == 0
    before = still.passes
    await asyncio.sleep(0.2)
    assert still.passes - before <= 1


async def test_drift_is_repaired_and_counted(world: World) -> None:
    before = _drifts.labels("route")._value.get()
    world.kernel.routes.entries.clear()
    world.kernel.routes.entries["10.9.0.0/16"] = RouteEntry(prefix="10.9.0.0/16", device="wt0")
    world.dirty("route")
    await eventually(lambda: world.routes == {"10.1.0.0/16"}, within_s=0.5)
    assert _drifts.labels("route")._value.get() == before + 2


async def test_a_peer_that_another_program_changed_is_seen_by_who_counts_its_packets(world: World) -> None:
    peers = world.kernel.device.peers
    wanted = peers.entries[key("gw")]
    reads = peers.reads
    world.count()
    await asyncio.sleep(0.05)
    assert peers.reads == reads, "what the device counts is as the loop left it"
    peers.entries[key("gw")] = replace(wanted, allowed_ips=frozenset({"100.64.0.2/32"}))
    world.count()
    await eventually(lambda: peers.entries[key("gw")] == wanted, within_s=0.5)


async def test_counters_that_were_read_before_a_pass_are_no_drift_after_it(world: World) -> None:
    """Whoever reads them does so while the loop changes the device."""
    world.kernel.rules.meanwhile = world.count
    reads = world.kernel.device.peers.reads
    world.dirty("rule")
    world.want(2, 1, 2)
    await eventually(lambda: world.applied == 2)
    await asyncio.sleep(0.05)
    assert world.kernel.device.peers.reads == reads + 1


async def test_nothing_is_touched_before_anything_is_known() -> None:
    """What a predecessor left is not judged by an empty picture."""
    world = World(Memory())
    world.kernel.routes.entries["10.1.0.0/16"] = RouteEntry(prefix="10.1.0.0/16", device="wt0")
    world.situation.documents.set(None)
    world.start()
    world.dirty()
    await asyncio.sleep(0.05)
    assert (world.passes, world.routes) == (0, {"10.1.0.0/16"})
    world.want(3)
    await eventually(lambda: world.passes and not world.routes)
    assert world.running is not None
    world.running.cancel()
    await asyncio.gather(world.running, return_exceptions=True)


async def test_drift_is_seen_beside_a_change_that_is_wanted_at_the_same_time(world: World) -> None:
    before = _drifts.labels("link")._value.get()
    await world.kernel.device.destroy()
    world.lose()
    world.dirty("link")
    await eventually(lambda: "wt0" in world.kernel.links.entries)
    assert _drifts.labels("link")._value.get() == before + 1


async def test_drift_that_cannot_be_repaired_is_counted_once(world: World) -> None:
    before = _drifts.labels("route")._value.get()
    world.kernel.routes.refused = {"10.1.0.0/16": "no"}
    world.kernel.routes.entries.clear()
    for _ in range(4):
        world.dirty("route")
        await world.another_pass()
    assert _drifts.labels("route")._value.get() == before + 1


async def test_a_peer_that_went_with_its_device_is_added_once_and_not_reset_as_well(world: World) -> None:
    await world.kernel.device.destroy()
    writes = world.kernel.device.peers.writes
    world.kernel.rules.meanwhile = world.lose
    world.dirty()
    await eventually(lambda: key("gw") in world.kernel.device.peers.entries)
    world.dirty()
    await world.another_pass()
    assert world.kernel.device.peers.entries[key("gw")].endpoint == "192.0.2.1:1"
    assert world.kernel.device.peers.writes == writes + 1


async def test_a_wanted_change_is_no_drift(world: World) -> None:
    before = _drifts.labels("route")._value.get()
    world.want(2, 2)
    await eventually(lambda: world.applied == 2)
    assert _drifts.labels("route")._value.get() == before


async def test_a_link_that_went_is_made_again_with_all_that_hung_on_it(world: World) -> None:
    await world.kernel.device.destroy()
    world.kernel.routes.entries.clear()
    world.dirty("link")
    await eventually(lambda: world.routes == {"10.1.0.0/16"} and key("gw") in world.kernel.device.peers.entries)


async def test_a_device_that_no_longer_answers_behind_its_link_is_made_again(world: World) -> None:
    wanted = world.kernel.device.device
    world.kernel.device.device = None
    world.kernel.device.peers.entries.clear()
    world.dirty("device")
    await eventually(lambda: world.kernel.device.device == wanted and not world.passed.pending)
    assert key("gw") in world.kernel.device.peers.entries


async def test_a_link_that_went_down_has_taken_its_routes_along(world: World) -> None:
    link = world.kernel.links.entries["wt0"]
    world.kernel.links.entries["wt0"] = replace(link, up=False)
    world.kernel.routes.entries.clear()
    world.dirty("link")
    await eventually(lambda: world.routes == {"10.1.0.0/16"} and world.kernel.links.entries["wt0"].up)


async def test_a_burst_of_changes_is_few_passes(world: World) -> None:
    before = world.passes
    for revision in range(2, 1002):
        world.want(revision, revision % 200)
        if revision % 100 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: world.applied == 1001)
    assert world.passes - before < 20


async def test_a_change_reads_only_what_it_touched(world: World) -> None:
    rules, routes = world.kernel.rules.reads, world.kernel.routes.reads
    world.want(2, 1, 2)
    await eventually(lambda: world.applied == 2)
    assert world.kernel.rules.reads == rules
    assert world.kernel.routes.reads == routes + 1


async def test_a_kernel_that_cannot_be_read_is_asked_again(world: World) -> None:
    world.kernel.rules.broken = True
    world.dirty("rule")
    reads = world.kernel.rules.reads
    await eventually(lambda: world.kernel.rules.reads > reads)
    world.kernel.rules.broken = False
    world.want(2, 2)
    await eventually(lambda: world.applied == 2, within_s=3.0)


async def test_settings_are_noted_before_they_are_changed_and_put_back_at_the_end(world: World) -> None:
    path = "net/ipv4/conf/all/src_valid_mark"
    assert world.kernel.sysctls.entries[path].value == "1"
    assert world.originals.history == [{path: "0"}]
    assert await world.loop.stop() == {}
    assert world.kernel.sysctls.entries[path].value == "0"
    assert world.originals.value == {}


async def test_a_clean_stop_leaves_nothing(world: World) -> None:
    assert await world.loop.stop() == {}
    assert world.kernel.is_bare()


async def test_a_stop_says_what_it_could_not_remove(world: World) -> None:
    world.kernel.nft.refused = "Device or resource busy"
    assert await world.loop.stop() == {"ruleset": "Device or resource busy"}


class FullDisk(Kept):
    def keep(self, value: dict[str, str]) -> None:
        if value != self.value:
            raise OSError(28, "No space left on device")


async def test_a_full_disk_keeps_settings_as_they_are_and_stops_nothing_else(still: World) -> None:
    still.loop._originals = FullDisk()
    still.start()
    await eventually(lambda: still.routes == {"10.1.0.0/16"} and still.passed.pending)
    assert still.passed.pending == {
        "sysctl net/ipv4/conf/all/src_valid_mark": "its former value cannot be noted: No space left on device"
    }
    assert still.kernel.sysctls.entries["net/ipv4/conf/all/src_valid_mark"].value == "0"
