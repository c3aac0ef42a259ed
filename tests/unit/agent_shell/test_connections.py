"""What is ended and forgotten when routing peers change, who is told, and what a kernel without support costs."""

import threading
from collections.abc import Collection, Iterable
from ipaddress import ip_address

import structlog.testing

from services.agent.connections import Connections
from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.kernel import PeerStats, WireGuardPeer
from services.agent.departures import Departures
from services.agent.errors import MechanismMissing
from services.agent.situation import PassResult, Situation
from shared.events.signals import Departed
from tests.unit.agent import make
from tests.unit.agent.make import key, peer, route

LAN = "10.1.0.0/16"


def number(text: str) -> int:
    return int(ip_address(text))


class Sockets:
    """The connections of a host, by the other side's address. able: whether the kernel can tell of them."""

    def __init__(self, *addresses: str) -> None:
        self.open = [Socket(version=4, destination=number(address)) for address in addresses]
        self.asked: list[str] = []
        self.able = True

    def of(self, addresses: Iterable[str]) -> list[Socket]:
        if not self.able:
            raise MechanismMissing("no such thing here")
        self.asked += addresses
        return list(self.open)

    def end(self, sockets: Iterable[Socket]) -> int:
        ended = list(sockets)
        self.open = [one for one in self.open if one not in ended]
        return len(ended)

    def left(self) -> set[str]:
        return {str(ip_address(one.destination)) for one in self.open}


class Client:
    """A host with routes through a and b. told: who was told which routes it left."""

    def __init__(self, sockets: Sockets) -> None:
        self.situation = Situation(make.local())
        self.told: list[tuple[str, set[str]]] = []
        self.connections = Connections(self.situation, sockets, self)
        self.documents = make.documents(make.me(), [peer("a"), peer("b")], routes=[route("lan", LAN, by=("a", "b"))])
        self.situation.documents.set(self.documents)

    async def depart(self, receiver: str, routes: Collection[str]) -> None:
        self.told.append((receiver, set(routes)))

    async def carried_by(self, peer_id: str) -> None:
        """A pass gave the LAN to this peer, "" for nobody."""
        held = {one: frozenset({LAN}) if one == peer_id else frozenset() for one in ("a", "b")}
        peers = {key(one): WireGuardPeer(public_key=key(one), allowed_ips=allowed) for one, allowed in held.items()}
        desired = Desired(peers=peers)
        self.situation.passed.set(PassResult(documents=self.documents, local=self.situation.local, desired=desired))
        await self.connections.step()


async def test_a_switch_ends_the_connections_it_moves_and_tells_the_one_before() -> None:
    sockets = Sockets("10.1.2.3", "10.2.0.1")
    client = Client(sockets)
    await client.carried_by("a")
    assert (sockets.left(), client.told) == ({"10.1.2.3", "10.2.0.1"}, [])
    await client.carried_by("b")
    assert (sockets.left(), client.told) == ({"10.2.0.1"}, [("a", {"lan"})])
    assert sockets.asked == ["100.64.0.1", "fd00:64::1"], "of this host's own addresses in the overlay"


async def test_an_outage_that_nobody_steps_in_for_ends_nothing() -> None:
    sockets = Sockets("10.1.2.3")
    client = Client(sockets)
    for peer_id in ("a", "", "a"):
        await client.carried_by(peer_id)
    assert (sockets.left(), client.told) == ({"10.1.2.3"}, [])


async def test_a_switch_that_a_killed_run_had_begun_is_finished() -> None:
    sockets = Sockets("10.1.2.3")
    client = Client(sockets)
    held = PeerStats(endpoint="", last_handshake=0.0, rx_bytes=0, tx_bytes=0, allowed_ips=frozenset({LAN}))
    client.situation.counters.set({key("a"): held})
    client.connections.begin()
    await client.carried_by("b")
    assert sockets.left() == set()


async def test_a_kernel_that_cannot_end_connections_is_said_once_and_stops_nothing() -> None:
    sockets = Sockets("10.1.2.3")
    sockets.able = False
    client = Client(sockets)
    with structlog.testing.capture_logs() as logs:
        for peer_id in ("a", "b", "a"):
            await client.carried_by(peer_id)
    assert client.told == [("a", {"lan"}), ("b", {"lan"})]
    assert "no such thing here" in client.situation.unended.value
    assert len(logs) == 1


class Tracked:
    """What a gateway's connection tracking knows: pairs of source and destination."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.flows = [Flow(version=4, protocol=6, source=number(one), destination=number(to)) for one, to in pairs]
        self.able = True

    def begun_by(self, addresses: Collection[str]) -> list[Flow]:
        if not self.able:
            raise MechanismMissing("no such thing here")
        sources = {number(one) for one in addresses if ":" not in one}
        return [one for one in self.flows if one.source in sources]

    def tcp(self) -> list[Flow]:
        return self.flows

    def forget(self, flows: Iterable[Flow]) -> int:
        gone = list(flows)
        self.flows = [one for one in self.flows if one not in gone]
        return len(gone)

    def left(self) -> set[tuple[str, str]]:
        return {(str(ip_address(one.source)), str(ip_address(one.destination))) for one in self.flows}


class Gateway:
    def __init__(self, tracked: Tracked) -> None:
        self.situation = Situation(make.local())
        self.departures = Departures(self.situation, tracked)

    async def serves(self, *ids: str) -> None:
        peers = [peer("alice", v4="100.64.0.11"), peer("bob", v4="100.64.0.12")]
        networks = {"lan": LAN, "other": "10.2.0.0/16"}
        documents: Documents = make.documents(make.me(), peers, routes=[make.served(one, networks[one]) for one in ids])
        desired = Desired(served=frozenset(ids))
        self.situation.passed.set(PassResult(documents=documents, local=self.situation.local, desired=desired))
        await self.departures.step()

    async def hears(self, sender: str, *routes: str, at: float = 1.0) -> None:
        self.departures.hear(sender, Departed(routes=routes, sent_at=at))
        await self.departures.step()


ALICE_LAN, ALICE_OTHER, BOB_LAN = (
    ("100.64.0.11", "10.1.2.3"),
    ("100.64.0.11", "10.2.0.1"),
    ("100.64.0.12", "10.1.2.3"),
)


async def test_a_client_that_leaves_a_route_has_its_own_connections_there_forgotten() -> None:
    tracked = Tracked(ALICE_LAN, ALICE_OTHER, BOB_LAN)
    gateway = Gateway(tracked)
    await gateway.serves("lan", "other")
    await gateway.hears("alice", "lan")
    assert tracked.left() == {ALICE_OTHER, BOB_LAN}


async def test_an_old_word_and_one_that_somebody_sends_again_change_nothing() -> None:
    tracked = Tracked()
    gateway = Gateway(tracked)
    await gateway.serves("lan", "other")
    await gateway.hears("alice", "other", at=2.0)
    tracked.flows = Tracked(ALICE_LAN, ALICE_OTHER).flows
    await gateway.hears("alice", "other", at=2.0)
    await gateway.hears("alice", "lan", at=1.0)
    assert tracked.left() == {ALICE_LAN, ALICE_OTHER}
    await gateway.hears("alice", "lan", at=3.0)
    assert tracked.left() == {ALICE_OTHER}


async def test_nobody_speaks_for_routes_that_this_host_does_not_serve() -> None:
    tracked = Tracked(ALICE_LAN)
    gateway = Gateway(tracked)
    await gateway.serves("other")
    await gateway.hears("alice", "lan", "unknown")
    await gateway.hears("stranger", "other")
    assert tracked.left() == {ALICE_LAN}


async def test_a_gateway_that_stops_serving_a_route_forgets_what_went_there() -> None:
    tracked = Tracked(ALICE_LAN, ALICE_OTHER, BOB_LAN)
    gateway = Gateway(tracked)
    await gateway.serves("lan", "other")
    await gateway.serves("other")
    assert tracked.left() == {ALICE_OTHER}


async def test_a_kernel_that_tells_nothing_of_connections_is_said_once() -> None:
    tracked = Tracked(ALICE_LAN)
    gateway = Gateway(tracked)
    tracked.able = False
    await gateway.serves("lan")
    with structlog.testing.capture_logs() as logs:
        await gateway.hears("alice", "lan", at=1.0)
        await gateway.hears("alice", "lan", at=2.0)
    assert len(logs) == 1
    assert "no such thing here" in gateway.situation.unforgotten.value
    tracked.able = True
    await gateway.hears("alice", "lan", at=3.0)
    assert (tracked.left(), gateway.situation.unforgotten.value) == (set(), "")


async def test_what_clients_left_is_looked_for_beside_the_event_loop() -> None:
    tracked, threads = Tracked(ALICE_LAN), list[int]()
    begun_by = tracked.begun_by

    def listed(addresses: Collection[str]) -> Iterable[Flow]:
        for one in begun_by(addresses):
            threads.append(threading.get_ident())
            yield one

    tracked.begun_by = listed  # type: ignore[method-assign,assignment]
    gateway = Gateway(tracked)
    await gateway.serves("lan")
    await gateway.hears("alice", "lan")
    assert tracked.left() == set()
    assert len(threads) == 1
    assert threading.get_ident() not in threads
