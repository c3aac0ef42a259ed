"""What the part that probes tells others, and when. Its driver answers in this process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping

import pytest

from services.agent import probes
from services.agent.asking import Asking
from services.agent.cells import Cell
from services.agent.core.desired_state import Desired
from services.agent.core.ha.probing import Targets
from services.agent.core.ha.standing import Health, Probed, Role
from services.agent.core.kernel import NftSet, PeerStats, Ruleset
from services.agent.core.reconcile.desired import Local
from services.agent.ports import Heard
from services.agent.probes import Probes
from services.agent.situation import PassResult, Situation, Tunnels
from shared.metrics import exposition
from tests.support.bus import eventually


class Kernels:
    """Those of all routing peers: each answers at once, as long as it is there. asked: addresses, in order."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._waiting: list[Heard] = []
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self.broken = False
        self.also: list[Heard] = []

    def filenos(self) -> tuple[int, ...]:
        return (self._here.fileno(),)

    def send(self, address: str, message: bytes) -> str:
        if self.broken:
            return "No such device"
        self.asked.append(address)
        if address not in self.silent:
            self._waiting.append(Heard(address, b"\0" + message[1:], asyncio.get_running_loop().time()))
            self._there.send(b".")
        return ""

    def read(self) -> list[Heard]:
        with contextlib.suppress(BlockingIOError):
            self._here.recv(65536)
        heard, self._waiting = [*self._waiting, *self.also], []
        self.also = []
        return heard

    def close(self) -> None:
        self._here.close()
        self._there.close()


class Told(Cell[Mapping[str, Health]]):
    """history: what was told, in order."""

    def __init__(self) -> None:
        super().__init__({})
        self.history: list[Mapping[str, Health]] = []

    def set(self, value: Mapping[str, Health]) -> None:
        self.history.append(value)
        super().set(value)


class Noted(Asking):
    """paces: seconds between two questions to those who were to be asked last."""

    paces: tuple[float, ...] = ()

    def ask(self, targets: Targets) -> float | None:
        self.paces = tuple(one.pace_s for one in targets.values())
        return super().ask(targets)


class World:
    def __init__(self, purpose: str) -> None:
        self.kernels = Kernels()
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.situation.health = self.told = Told()
        self.asking = Noted(purpose, 7, self.kernels)
        self._probes = Probes(self.situation, self.asking)
        self._sent = 0

    def probed(self, **roles: Role) -> None:
        self.situation.probed.set(
            {
                name: Probed(public_key=f"key of {name}", address=f"100.64.0.{name[-1]}", role=role)
                for name, role in roles.items()
            }
        )

    def connected(self, *names: str) -> None:
        self.situation.tunnels.set(Tunnels(connected=frozenset(f"key of {name}" for name in names)))

    def serves(self, *clients: str) -> None:
        """Routes of this host may be used by those with these addresses."""
        elements = frozenset(clients)
        asking = NftSet(name="from_clients_v4", type="ipv4_addr", interval=False, elements=elements)
        desired = Desired(ruleset=Ruleset(sets=(asking,)), served=frozenset(("r1",)))
        self.situation.passed.set(PassResult(local=self.situation.local, desired=desired))

    def carries(self, name: str, sent: int = 10_000) -> None:
        """The device has counted so many bytes more."""
        for _ in range(2):
            self._sent += sent
            stats = PeerStats(endpoint="", last_handshake=1.0, rx_bytes=0, tx_bytes=self._sent)
            self.situation.counters.set({f"key of {name}": stats})
            self._probes.step()

    def verdicts(self) -> dict[str, str]:
        return {name: one.verdict for name, one in self.told.value.items()}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._probes.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_who_has_a_session_and_answers_is_up_and_who_has_none_is_unknown() -> None:
    world = World("one")
    async with world.running():
        world.probed(gw1="in use", gw2="standby")
        world.connected("gw1")
        await eventually(lambda: world.verdicts() == {"gw1": "up", "gw2": "unknown"})
        assert world.kernels.asked == ["100.64.0.1"]
        world.connected()
        await eventually(lambda: world.verdicts() == {"gw1": "unknown", "gw2": "unknown"})
        world.probed()
        await eventually(lambda: world.told.value == {})


async def test_who_carries_packets_and_falls_silent_is_down_and_the_first_answer_brings_it_back_g2() -> None:
    world = World("two")
    async with world.running():
        world.probed(gw1="in use")
        world.connected("gw1")
        await eventually(lambda: world.verdicts() == {"gw1": "up"})
        world.carries("gw1")
        world.kernels.silent = {"100.64.0.1"}
        await eventually(lambda: world.verdicts() == {"gw1": "down"})
        world.kernels.silent = set()
        await eventually(lambda: world.verdicts() == {"gw1": "up"})


async def test_another_path_is_a_reason_to_ask_at_once() -> None:
    world = World("five")
    async with world.running():
        world.probed(gw1="in use", gw2="in use")
        world.connected("gw1", "gw2")
        await eventually(lambda: world.verdicts() == {"gw1": "up", "gw2": "up"})
        assert len(world.kernels.asked) == 2
        connected = world.situation.tunnels.value.connected
        world.situation.tunnels.set(Tunnels(connected=connected, endpoints={"key of gw2": "192.0.2.2:1"}))
        await eventually(lambda: world.kernels.asked[2:] == ["100.64.0.2"])
        world.situation.tunnels.set(
            Tunnels(connected=connected, endpoints={"key of gw2": "192.0.2.2:1"}, resets={"key of gw1": 1})
        )
        await eventually(lambda: world.kernels.asked[3:] == ["100.64.0.1"])


@pytest.mark.parametrize(("client", "pace_s"), [("100.64.0.9", 0.2), ("100.64.0.1", 5.0)])
async def test_quiet_traffic_is_idle_only_towards_a_peer_that_may_probe_this_host(client: str, pace_s: float) -> None:
    world = World("six")
    async with world.running():
        world.probed(gw1="in use")
        world.connected("gw1")
        await eventually(lambda: world.verdicts() == {"gw1": "up"})
        world.serves(client)
        world.carries("gw1", 90)
        assert world.asking.paces == (pace_s,)


async def test_figures_are_told_once_a_second_and_verdicts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TOLD_APART_S", float("inf"))
    world = World("three")
    async with world.running():
        world.probed(gw1="in use")
        world.connected("gw1")
        await eventually(lambda: world.verdicts() == {"gw1": "up"})
        told = len(world.told.history)
        world.carries("gw1")
        await eventually(lambda: len(world.kernels.asked) >= 8)
        world.kernels.silent = {"100.64.0.1"}
        await eventually(lambda: world.verdicts() == {"gw1": "down"})
        assert len(world.told.history) == told + 1


async def test_what_the_kernel_does_not_send_and_what_nobody_asked_for_is_counted() -> None:
    world = World("four")
    async with world.running():
        world.probed(gw1="in use")
        world.connected("gw1")
        await eventually(lambda: world.verdicts() == {"gw1": "up"})
        world.kernels.also = [Heard("100.64.0.1", b"\0" * 32, 0.0), Heard("100.64.0.1", b"", 0.0)]
        world.carries("gw1")
        world.kernels.broken = True
        counted = (
            'whimbrel_agent_probe_answers_ignored_total{purpose="four",reason="foreign"} 1.0',
            'whimbrel_agent_probe_answers_ignored_total{purpose="four",reason="malformed"} 1.0',
            'whimbrel_agent_probes_unsent_total{purpose="four"}',
            'whimbrel_agent_probe_rtt_seconds_bucket{le="0.001",purpose="four"}',
        )
        await eventually(lambda: all(text in exposition().decode() for text in counted))
        await eventually(lambda: 'probes_unsent_total{purpose="four"} 0.0' not in exposition().decode())
        assert world.verdicts() == {"gw1": "up"}


async def test_a_host_that_may_not_ask_says_what_it_needs() -> None:
    world = World("mute")
    world.kernels.filenos = tuple  # type: ignore[method-assign]
    async with world.running():
        assert "CAP_NET_RAW" in world.situation.unasked.value
