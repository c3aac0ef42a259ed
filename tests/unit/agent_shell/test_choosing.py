"""Choosing in its shell: who is down is left in the turn in which that is known, and the kernel's loop hears of it."""

import asyncio
import contextlib

from msgspec.structs import replace

from services.agent.choosing import Choosing
from services.agent.core import parsed
from services.agent.core.ha.standing import Health
from services.agent.core.kernel import PeerStats
from services.agent.situation import Bus, Situation, Tunnels
from shared.events.documents import PresenceDoc, RouteDoc
from tests.support.bus import eventually
from tests.unit.agent import make

R = ("r", "10.1.0.0/16", ())


def situation(*routes: RouteDoc) -> Situation:
    peers = [make.peer("a", number=2), make.peer("b", number=3)]
    routes = routes or (make.route("r", by=("a", "b")),)
    found = Situation(make.local(), make.documents(make.me(), peers, routes=routes))
    found.tunnels.set(Tunnels(connected=frozenset({make.key("a"), make.key("b")})))
    found.bus.set(Bus(standing="connected", sessions=1))
    return found


def health(a: str, b: str) -> dict[str, Health]:
    return {name: Health(verdict=v, public_key=make.key(name)) for name, v in {"a": a, "b": b}.items()}  # type: ignore[arg-type]


async def test_a_routing_peer_that_is_down_is_left_in_the_next_turn_of_the_event_loop_g2() -> None:
    there = situation()
    choosing = Choosing(there)
    choosing.begin()
    assert there.decisions.value[R].peer_id == "a"
    assert set(there.probed.value) == {"a", "b"}
    running = asyncio.create_task(choosing.run())
    await asyncio.sleep(0)
    there.health.set(health("down", "up"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert there.decisions.value[R].peer_id == "b"
    assert [one.cause for one in there.switches.value] == ["down"]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_what_is_due_is_done_without_anything_happening() -> None:
    there = situation(*(make.route(f"r{n}", network_id="r", by=name, metric=n) for n, name in enumerate("ab")))
    there.health.set(health("down", "up"))
    choosing = Choosing(there)
    choosing.begin()
    running = asyncio.create_task(choosing.run())
    there.health.set(health("up", "up"))
    await eventually(lambda: there.decisions.value[R].peer_id == "a", within_s=20.0)
    assert not there.switches.value, "it waits for its moment"
    there.released.set({R: there.decisions.value[R]})
    await eventually(lambda: there.switches.value, within_s=20.0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert [one.cause for one in there.switches.value] == ["metric"]


def test_a_start_takes_up_whom_the_device_leads_to() -> None:
    there = situation()
    there.counters.set({make.key("b"): stats("100.64.0.3/32", "10.1.0.0/16"), make.key("a"): stats("100.64.0.2/32")})
    Choosing(there).begin()
    assert there.decisions.value[R].peer_id == "b"
    assert there.switches.value == ()


def stats(*allowed_ips: str) -> PeerStats:
    return PeerStats(endpoint="", last_handshake=0.0, rx_bytes=0, tx_bytes=0, allowed_ips=frozenset(allowed_ips))


def test_fifty_switches_are_kept() -> None:
    there = situation()
    choosing = Choosing(there)
    choosing.begin()
    for number in range(52):
        there.health.set(health(*(("down", "up") if number % 2 == 0 else ("up", "down"))))
        choosing.step()
    assert len(there.switches.value) == 50
    assert there.switches.value[-1].now == "a"


def test_while_a_move_waits_the_routing_peer_that_carries_is_asked_as_one_in_use() -> None:
    """It may die meanwhile, and nothing else would say so."""
    metrics = {"a": 1, "b": 2, "c": 3}
    there = situation(*(make.route(f"r{n}", network_id="r", by=name, metric=n) for name, n in metrics.items()))
    documents = there.documents.value
    assert documents is not None
    peers = {**documents.peers, "c": parsed.peer(make.peer("c", number=4))}
    there.documents.set(replace(documents, peers=peers))
    there.tunnels.set(Tunnels(connected=frozenset(map(make.key, metrics))))
    there.counters.set({make.key("c"): stats("100.64.0.4/32", "10.1.0.0/16")})
    choosing = Choosing(there)
    choosing.begin()
    assert there.carriers.value[R].peer_id == "c"
    there.documents.set(
        replace(documents, peers=peers, presences={"c": PresenceDoc(peer_id="c", agent=True, draining=True)})
    )
    choosing.step()
    assert there.decisions.value[R].peer_id == "a"
    assert there.carriers.value[R].peer_id == "c"
    assert {name: one.role for name, one in there.probed.value.items()} == {
        "a": "in use",
        "b": "standby",
        "c": "in use",
    }
    there.released.set(there.decisions.value)
    choosing.step()
    assert set(there.probed.value) == {"a", "b"}
