"""Everything that can happen to a host and to the control plane, in an order drawn from a seed.

After each incident packets go where intent says, within LIMIT_S; in the end every kernel is as it was at the start.
`just chaos 1-20 40` runs other seeds for longer.
"""

import difflib
import os
import random
import time
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from deploy.lab import probes
from deploy.lab.api import ApiRefused
from deploy.lab.netns import CommandFailed, Namespace, run
from deploy.lab.processes import running
from deploy.lab.scenario import Scenario
from deploy.lab.topology import LAN_GATEWAY_V4, LAN_GATEWAY_V6, LAN_HOST_V4, LAN_HOST_V6, LAN_V4, LAN_V6, WEB_PORT
from tests.support.lab import eventually, kill, routed_lab

FIRST, _, LAST = os.environ.get("WHIMBREL_CHAOS_SEEDS", "1").partition("-")
ROUNDS = int(os.environ.get("WHIMBREL_CHAOS_ROUNDS", "8"))
LIMIT_S = 30.0

SERVICES = ("services.management", "services.signal", "services.resolver", "nats-server --config")
MEDDLING = (
    ("nft", "flush", "ruleset"),
    ("nft", "delete", "table", "inet", "whimbrel"),
    ("ip", "rule", "delete", "priority", "110"),
    ("ip", "-6", "rule", "delete", "priority", "105"),
    ("ip", "route", "flush", "table", "7120"),
    ("ip", "link", "set", "wt0", "down"),
    ("ip", "address", "flush", "dev", "wt0"),
    ("ip", "link", "delete", "wt0"),
    ("sysctl", "-q", "-w", "net.ipv4.ip_forward=0"),
    ("sysctl", "-q", "-w", "net.ipv6.conf.all.forwarding=0"),
)


class Chaos:
    """A lab, what people want of it at the moment, and what may happen next."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._random = random.Random(seed)
        self._enabled = True
        self._masquerade = True
        for prefix in (f"{scenario.overlay['client']['v4']}/32", f"{scenario.overlay['client']['v6']}/128"):
            scenario.lab.topology.return_route(prefix)

    def incident(self) -> tuple[str, Callable[[], object]]:
        """What happens, in words and as a call."""
        name, host = self._random.choice(list(self._agents().items()))
        service, meddling = self._random.choice(SERVICES), self._random.choice(MEDDLING)
        return self._random.choice(
            (
                (f"the agent of {name} is killed and started", partial(self._restart_agent, name)),
                (f"wireguard-go of {name} is killed", partial(_kill_all, host, "wireguard-go")),
                (f"{service} is killed", partial(_kill_all, self._scenario.lab.topology.underlay, service)),
                ("the control plane is killed and started", self._restart_server),
                (f"{name}: {' '.join(meddling)}", partial(_on, host, *meddling)),
                (f"{name}: {' '.join(meddling)}", partial(_on, host, *meddling)),
                ("the route is switched", partial(self.want, enabled=not self._enabled)),
                ("masquerade is switched", partial(self.want, masquerade=not self._masquerade)),
            )
        )

    def at_once(self) -> int:
        """How many incidents come without waiting for the first one to be over."""
        return self._random.choice((1, 1, 2, 3))

    def want(self, *, enabled: bool | None = None, masquerade: bool | None = None) -> None:
        """Change the routes through the API, once it answers."""
        self._enabled = self._enabled if enabled is None else enabled
        self._masquerade = self._masquerade if masquerade is None else masquerade
        for prefix in (LAN_V4, LAN_V6):
            assert eventually(partial(self._put, prefix), LIMIT_S), "the API takes the change"

    def settled(self) -> bool:
        return self._goes(LAN_HOST_V4, "v4", LAN_GATEWAY_V4) and self._goes(LAN_HOST_V6, "v6", LAN_GATEWAY_V6)

    def kernels(self) -> list[str]:
        """What is Whimbrel's in each host's kernel, line by line; endpoints, counters and handles left out."""
        return [f"{name}: {line}" for name, host in self._agents().items() for line in _kernel(host)]

    def differences(self, before: list[str]) -> list[str]:
        """Lines of the kernels that came (+) and went (-)."""
        return [line for line in difflib.ndiff(before, self.kernels()) if not line.startswith(" ")]

    def _agents(self) -> dict[str, Namespace]:
        return {name: self._scenario.lab.topology.hosts[name] for name in ("client", "gateway")}

    def _put(self, prefix: str) -> bool:
        try:
            self._scenario.put_route(prefix, enabled=self._enabled, masquerade=self._masquerade)
        except (ApiRefused, httpx.HTTPError):
            return False
        return True

    def _goes(self, target: str, family: str, gateway: str) -> bool:
        seen = self._scenario.lab.topology.client.call(probes.fetch, target, WEB_PORT, 1.0)
        if not self._enabled:
            return seen.startswith("failed")
        return seen == (gateway if self._masquerade else self._scenario.overlay["client"][family])

    def _restart_agent(self, name: str) -> None:
        _kill_all(self._agents()[name], "services.agent")
        self._scenario.lab.start_agent(name)

    def _restart_server(self) -> None:
        lab = self._scenario.lab
        _kill_all(lab.topology.underlay, "whimbrel server")
        assert eventually(lambda: not any(running(lab.topology.underlay, one) for one in SERVICES))
        lab.start_server()


def _kill_all(host: Namespace, word: str) -> None:
    for process in running(host, word):
        kill(process)


def _on(host: Namespace, *words: str) -> str:
    """What a tool prints on the host. That there is nothing to show or to take away is no failure."""
    try:
        return run(*host.command(words))
    except CommandFailed:
        return ""


def _kernel(host: Namespace) -> list[str]:
    looks = [
        ("ip", family, *what)
        for family in ("-4", "-6")
        for what in (
            ("rule",),
            ("route", "show", "table", "7120"),
            ("-br", "address", "show", "dev", "wt0", "scope", "global"),
        )
    ]
    looks += [("nft", "--stateless", "list", "table", "inet", "whimbrel"), ("wg", "show", "wt0", "allowed-ips")]
    return [line for look in looks for line in _on(host, *look).splitlines()]


@pytest.mark.timeout(ROUNDS * 2 * LIMIT_S)
@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or FIRST) + 1))
def test_whatever_happens_packets_go_where_intent_says_soon_after(seed: int) -> None:
    with routed_lab(f"c{os.getpid()}") as scenario:
        chaos = Chaos(scenario, seed)
        before = chaos.kernels()
        for number in range(ROUNDS):
            happened = [chaos.incident() for _ in range(chaos.at_once())]
            words = f"{number}: {', '.join(words for words, _ in happened)}"
            for _, happen in happened:
                happen()
            begin = time.monotonic()
            assert eventually(chaos.settled, LIMIT_S), words
            print(f"{time.monotonic() - begin:6.2f} s after {words}")
        chaos.want(enabled=True, masquerade=True)
        assert eventually(chaos.settled, LIMIT_S)
        eventually(lambda: not chaos.differences(before), LIMIT_S)
        assert chaos.differences(before) == []
