"""How a move's moment is found: look, shut the gate, look again, move, open."""

import gc
import threading
from collections.abc import Collection, Iterable
from ipaddress import ip_address

import pytest
import structlog.testing

from services.agent.cells import Watch
from services.agent.core.desired_state import Desired
from services.agent.core.ha.flows import Flow, Socket
from services.agent.core.ha.standing import Decision
from services.agent.core.intervals import Network
from services.agent.core.kernel import WireGuardPeer
from services.agent.core.routing.hagroups import HaKey
from services.agent.errors import MechanismMissing
from services.agent.handover import Handover
from services.agent.situation import PassResult, Situation
from tests.unit.agent import make
from tests.unit.agent.make import key, peer, route

LAN: HaKey = ("lan", "10.1.0.0/16", ())
FAR: HaKey = ("far", "10.2.0.0/16", ())
NETWORKS = {"10.1.0.0/16": LAN, "10.2.0.0/16": FAR}


class World:
    """A client with two sets through a, which are to move to b. did: what happened, in order.

    at_look: number of a look → destinations of connections that are busy then.
    """

    def __init__(self) -> None:
        self.did: list[str] = []
        self.at_look: dict[int, tuple[str, ...]] = {}
        self.looks = 0
        self.able = True
        self.situation = Situation(make.local())
        self._pass("a")
        self.situation.carriers.set(dict.fromkeys((LAN, FAR), Decision(peer_id="a", reason="")))
        self.situation.decisions.set(dict.fromkeys((LAN, FAR), Decision(peer_id="b", reason="")))
        self.handover = Handover(self.situation, self, self, self)

    def _pass(self, peer_id: str) -> None:
        documents = make.documents(
            make.me(),
            [peer("a"), peer("b")],
            routes=[route("lan", by=("a", "b")), route("far", "10.2.0.0/16", by=("a", "b"))],
        )
        held = WireGuardPeer(public_key=key(peer_id), allowed_ips=frozenset(NETWORKS))
        desired = Desired(peers={key(peer_id): held})
        self.situation.passed.set(PassResult(documents=documents, local=make.local(), desired=desired))

    def of(self, addresses: Iterable[str]) -> list[Socket]:
        if not self.able:
            raise MechanismMissing("no such thing here")
        self.looks += 1
        self.did.append("look")
        busy = self.at_look.get(self.looks, ())
        return [Socket(version=4, destination=int(ip_address(one)), sending=True) for one in busy]

    def end(self, sockets: Iterable[Socket]) -> int:
        raise AssertionError("nothing ends here")

    def begun_by(self, addresses: Collection[str]) -> list[Flow]:
        raise AssertionError("nobody asks")

    def forget(self, flows: Iterable[Flow]) -> int:
        raise AssertionError("nothing ends here")

    def tcp(self) -> list[Flow]:
        return []

    async def hold(self, networks: Collection[Network], for_s: float) -> str | None:
        self.did.append(" ".join(("shut", *sorted(map(str, networks)))) if networks else "open")
        return None

    def released(self) -> set[str]:
        return {network_id for network_id, _, _ in self.situation.released.value}


async def test_the_gate_is_shut_before_the_last_look_and_opened_after_the_move() -> None:
    world = World()
    await world.handover.step()
    assert world.did == ["look", "shut 10.1.0.0/16 10.2.0.0/16", "look", "open"]
    assert world.released() == {"lan", "far"}


async def test_the_gate_stays_shut_until_the_kernel_has_the_move() -> None:
    world = World()
    moved: list[str] = []

    async def hold(networks: Collection[Network], for_s: float) -> str | None:
        if not networks:
            moved.extend(world.situation.passed.value.desired.peers)
        return None

    world.hold = hold  # type: ignore[method-assign]
    settle = world.situation.released.set

    def carried_out(value: object) -> None:
        settle(value)  # type: ignore[arg-type]
        world._pass("b")

    world.situation.released.set = carried_out  # type: ignore[method-assign]
    await world.handover.step()
    assert moved == [key("b")]


async def test_one_set_does_not_wait_for_the_connections_of_another() -> None:
    world = World()
    world.at_look = {1: ("10.1.2.3",), 2: ("10.1.2.3",)}
    await world.handover.step()
    assert world.did == ["look", "shut 10.2.0.0/16", "look", "open"]
    assert world.released() == {"far"}


async def test_what_began_just_before_the_gate_was_shut_is_waited_for() -> None:
    world = World()
    world.at_look = {2: ("10.1.2.3", "10.2.2.3")}
    await world.handover.step()
    assert world.did[-1] == "open"
    assert world.released() == set()
    await world.handover.step()
    assert world.released() == {"lan", "far"}


async def test_while_all_are_busy_nothing_is_shut() -> None:
    world = World()
    world.at_look = {1: ("10.1.2.3", "10.2.2.3")}
    await world.handover.step()
    assert world.did == ["look"]
    assert world.released() == set()


async def test_a_host_that_cannot_look_moves_at_once() -> None:
    world = World()
    world.able = False
    await world.handover.step()
    assert world.released() == {"lan", "far"}


async def test_where_no_move_waits_nobody_looks() -> None:
    world = World()
    world.situation.carriers.set(world.situation.decisions.value)
    await world.handover.step()
    assert world.did == []


@pytest.mark.parametrize("lost", [TimeoutError("timed out"), MechanismMissing("no such thing here")])
async def test_a_gate_that_does_not_answer_keeps_no_move_and_ends_nothing(lost: Exception) -> None:
    world = World()

    async def hold(networks: Collection[Network], for_s: float) -> str | None:
        raise lost

    world.hold = hold  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        await world.handover.step()
    assert world.released() == {"lan", "far"}
    assert len(logs) == 1, "it is neither shut nor opened, which is one trouble"


async def test_connections_of_all_the_host_are_listed_beside_the_event_loop() -> None:
    world, threads = World(), list[int]()

    def tcp() -> list[Flow]:
        threads.append(threading.get_ident())
        return []

    world.tcp = tcp  # type: ignore[method-assign]
    await world.handover.step()
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_moves_leave_nothing_behind_that_is_woken() -> None:
    world = World()
    watches = [sum(isinstance(one, Watch) for one in gc.get_objects())]
    for _ in range(2):
        await world.handover.step()
        watches.append(sum(isinstance(one, Watch) for one in gc.get_objects()))
    assert len(set(watches)) == 1
