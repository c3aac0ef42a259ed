"""The addresses that names of served routes led to, and for how long each stays permitted."""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address

import msgspec

from services.agent.core.firewall.learned import learned_name
from services.agent.core.firewall.permits import VERSIONS
from services.agent.core.ha.flows import Flow
from services.agent.core.kernel import FILL_AT_ONCE

MOST = 65_536
"""Addresses of all routes together; of more than that nobody is told."""
MOST_OF_ONE = MOST // 4
"""And of one route: names invented below its wildcard leave room for others."""
CROWDED = 3 / 4
"""From that part of either on, what nobody uses has to go."""
IN_USE_S = 900.0
"""Who was told of an address may use it for so long, and the forwarder tells it to others without asking again."""
KEEP_S = 7 * 86_400.0
"""How long a route that keeps addresses has them (decision R1)."""
KEPT_PER_NAME = 1_024
"""And how many of one name (decision R1); further ones stay as long as those of other routes."""
LOOK_EVERY_S = 60.0
DUE_S = 2.5 * LOOK_EVERY_S
"""What ends within that time is looked after: there is a second look in case one fails."""
USED_S = 600.0
"""For how long an address stays permitted that a connection leads to when somebody looks."""

Elements = dict[str, dict[str, float]]
"""Set name → address → seconds, as drivers take them."""


class Use(msgspec.Struct, frozen=True):
    """An address in the set of a route."""

    route: str
    address: str

    @property
    def set_name(self) -> str:
        return learned_name(self.route, 6 if ":" in self.address else 4)


class Learned:
    """What was filled into the sets of routes, and until when it is there. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until: dict[Use, float] = {}
        self._used_at: dict[Use, float] = {}
        self._counts = Counter[str]()
        self._kept: dict[tuple[str, str], set[str]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def adopt(self, routes: Iterable[str], filled: Mapping[str, Mapping[str, float]], now: float) -> None:
        """What a former run left in the sets. filled: set name → address → seconds left."""
        for route in routes:
            for version in VERSIONS:
                for address, left_s in filled.get(learned_name(route, version), {}).items():
                    use = Use(route, address)
                    self._stays(use, now + left_s)
                    self._used_at.setdefault(use, now)

    def asked(
        self,
        routes: Collection[str],
        keeping: Collection[str],
        name: str,
        addresses: Collection[str],
        for_s: float,
        now: float,
    ) -> dict[Use, float]:
        """For how long the addresses of an answer are to be permitted, by route. keeping: routes that keep them.

        Raises OverflowError when there are too many, and then nothing changed.
        """
        new = {Use(route, address) for route in routes for address in addresses} - self._until.keys()
        if len(self._until) + len(new) > MOST or any(
            self._counts[route] + more > MOST_OF_ONE for route, more in Counter(use.route for use in new).items()
        ):
            raise OverflowError
        wanted: dict[Use, float] = {}
        for route in routes:
            kept = self._kept.setdefault((route, name), set()) if route in keeping else set()
            for address in addresses:
                keeps = route in keeping and (address in kept or len(kept) < KEPT_PER_NAME)
                if keeps:
                    kept.add(address)
                wanted[Use(route, address)] = max(for_s, KEEP_S) if keeps else for_s
        self.use(wanted, now)
        return wanted

    def use(self, uses: Iterable[Use], now: float) -> None:
        """These are in use now."""
        self._used_at.update(dict.fromkeys(uses, now))

    def crowding(self, now: float) -> list[Use]:
        """What is to go if no connection leads there, so that there is room again: what was not used for longest."""
        room = CROWDED * MOST_OF_ONE
        if len(self._until) > CROWDED * MOST:
            room = min(room, CROWDED * MOST / len(self._counts))
        surplus = {route: int(count - room) for route, count in self._counts.items() if count > room}
        idle: dict[str, list[tuple[float, str]]] = {route: [] for route in surplus}
        for use in self._until if surplus else ():
            used_at = self._used_at.get(use, 0.0)
            if use.route in idle and used_at < now - IN_USE_S:
                idle[use.route].append((used_at, use.address))
        return [
            Use(route, address)
            for route, found in idle.items()
            for _, address in heapq.nsmallest(surplus[route], found)
        ]

    def idle(self, uses: Iterable[Use], now: float) -> list[Use]:
        """Those of them that nobody uses."""
        return [use for use in uses if self._used_at.get(use, 0.0) < now - IN_USE_S]

    def drop(self, uses: Collection[Use], now: float) -> dict[Use, float]:
        """These are taken out; gives the seconds that they had left."""
        left: dict[Use, float] = {}
        of_route: dict[str, set[str]] = {}
        for use in uses:
            self._used_at.pop(use, None)
            if use in self._until:
                left[use] = self._until.pop(use) - now
                self._counts[use.route] -= 1
                of_route.setdefault(use.route, set()).add(use.address)
        for (route, _), kept in self._kept.items():
            kept -= of_route.get(route, set())
        return left

    def _stays(self, use: Use, until: float) -> None:
        former = self._until.get(use)
        if former is None:
            self._counts[use.route] += 1
        self._until[use] = max(former or 0.0, until)

    def put(self, wanted: Mapping[Use, float], now: float) -> None:
        """These were filled. What is there for longer stays for longer."""
        for use, for_s in wanted.items():
            self._stays(use, now + for_s)

    def longer(self, wanted: Mapping[Use, float], now: float) -> dict[Use, float]:
        """Those of them that are not there for so long already, so that none is shortened."""
        return {use: for_s for use, for_s in wanted.items() if self._until.get(use, 0.0) < now + for_s}

    def forget(self, routes: Collection[str], now: float) -> None:
        """Whatever ended, or is of other routes than these, is gone."""
        self._until = {use: until for use, until in self._until.items() if until > now and use.route in routes}
        self._counts = Counter(use.route for use in self._until)
        self._used_at = {use: self._used_at[use] for use in self._until if use in self._used_at}
        held = {use.address for use in self._until}
        self._kept = {
            key: kept & held for key, kept in self._kept.items() if key[0] in routes and not kept.isdisjoint(held)
        }

    def all(self, now: float) -> dict[Use, float]:
        """All of it, and the seconds it has left: what is filled again after others emptied a set."""
        return {use: until - now for use, until in self._until.items() if until > now}

    def due(self, now: float) -> list[Use]:
        """What ends soon, the most urgent first."""
        ending = ((until, use.route, use.address) for use, until in self._until.items() if until < now + DUE_S)
        return [Use(route, address) for _, route, address in heapq.nsmallest(MOST, ending)]


def used(due: Iterable[Use], flows: Iterable[Flow], askers: Mapping[str, Collection[str]]) -> list[Use]:
    """Those that a connection still leads to, of somebody who may ask about the route.

    askers: overlay address → routes.
    """
    routes = {int(ip_address(address)): allowed for address, allowed in askers.items()}
    led: dict[int, set[str]] = {}
    for flow in flows:
        led.setdefault(flow.destination, set()).update(routes.get(flow.source, ()))
    return [one for one in due if one.route in led.get(int(ip_address(one.address)), ())]


def batches(wanted: Mapping[Use, float]) -> Iterator[dict[Use, float]]:
    """As many as go into one transaction."""
    items = list(wanted.items())
    for at in range(0, len(items), FILL_AT_ONCE):
        yield dict(items[at : at + FILL_AT_ONCE])


def elements(wanted: Mapping[Use, float]) -> Elements:
    found: Elements = {}
    for use, for_s in wanted.items():
        found.setdefault(use.set_name, {})[use.address] = for_s
    return found
