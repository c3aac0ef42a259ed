"""What deciding costs a client of 200 HA sets with 8 candidates each: CPU of one look, by what happened.

Shared: the same 8 gateways carry all sets. Apart: each set has its own. Reference in the same run: every set decided
anew. A second with news of a round trip time is what 1 % of a core has to suffice for: 10 ms.
"""

import time
from collections.abc import Callable
from functools import partial

from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.ha.hasets import HaSets, Known
from services.agent.core.ha.standing import Health, Verdict
from tests.bench.figures import Figure, figure
from tests.unit.agent import make

SETS, CANDIDATES, TIMES = 200, 8, 50


class Client:
    """apart: whether each set has gateways of its own."""

    def __init__(self, *, apart: bool) -> None:
        count = SETS * CANDIDATES if apart else CANDIDATES
        self.now = 1000.0
        self.peers = [f"p{number:04}" for number in range(count)]
        number_of = {name: number for number, name in enumerate(self.peers)}
        documents = [make.peer(name, v4=f"100.64.{1 + n // 250}.{1 + n % 250}", v6="") for name, n in number_of.items()]
        routes = [
            make.route(f"r{n:03}", f"10.{n}.0.0/16", by=self._candidates(n, apart=apart), metric=100)
            for n in range(SETS)
        ]
        self.known = Known(
            Documents(
                self_doc=make.me(),
                peers={one.peer_id: parsed.peer(one) for one in documents},
                routes={one.route_id: parsed.route(one) for one in routes},
            ),
            connected=frozenset(map(make.key, self.peers)),
            is_open=True,
        )
        self.sets = HaSets()
        self.look({})
        self.look({name: health(name) for name in self.sets.probed})

    def look(self, health: dict[str, Health]) -> None:
        self.now += 1.0
        self.known = self.known._replace(health=health)
        self.sets.update(self.known, self.now, self.now)

    def with_(self, name: str, verdict: Verdict) -> None:
        """A probe says something else of one routing peer, and the standbys that follow answer."""
        now = {**self.known.health, name: health(name, verdict)}
        self.look({peer: now.get(peer, health(peer)) for peer in self.sets.probed})

    def drift(self, step: int) -> None:
        """All that are asked take longer or shorter than a second ago."""
        self.look({name: health(name, rtt_s=0.05 + 0.005 * (step % 2)) for name in self.sets.probed})

    def nothing(self) -> None:
        self.look(dict(self.known.health))

    def from_nothing(self) -> None:
        HaSets().update(self.known, self.now, self.now)

    def _candidates(self, number: int, *, apart: bool) -> list[str]:
        return self.peers[number * CANDIDATES : (number + 1) * CANDIDATES] if apart else self.peers


def health(name: str, verdict: Verdict = "up", rtt_s: float = 0.02) -> Health:
    return Health(verdict=verdict, rtt_s=rtt_s, public_key=make.key(name))


def measure() -> list[Figure]:
    return [one for apart in (False, True) for one in _measured(Client(apart=apart), "apart" if apart else "shared")]


def _measured(client: Client, what: str) -> list[Figure]:
    first = client.peers[0]
    verdicts: tuple[Verdict, Verdict] = ("down", "up")
    events: dict[str, Callable[[int], None]] = {
        "one is down, or back": lambda n: client.with_(first, verdicts[n % 2]),
        "all drift": client.drift,
        "nothing": lambda _: client.nothing(),
    }
    aims = {"all drift": "10"}
    figures = [
        figure(f"{what}: {event}", "ms", _costs(happen), aims.get(event, "")) for event, happen in events.items()
    ]
    anew = [_cpu_ms(client.from_nothing) for _ in range(5)]
    return [*figures, figure(f"{what}, reference: all sets anew", "ms", anew)]


def _costs(happen: Callable[[int], None]) -> list[float]:
    return [_cpu_ms(partial(happen, number)) for number in range(TIMES)]


def _cpu_ms(call: Callable[[], None]) -> float:
    begin = time.process_time()
    call()
    return (time.process_time() - begin) * 1000
