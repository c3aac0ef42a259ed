"""Random accounts and events, each from a seed: dense, so that nearly every world has something to get wrong."""

from collections.abc import Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from services.management.core.entities import Entity, Ref
from services.management.core.model.commit import Commit
from services.management.core.model.policy import PolicyRule, ResourceRef
from shared.events.documents import PortRange
from tests import builders
from tests.builders import ALL

GROUPS = ("g0", "g1", "g2")
PEERS = ("p0", "p1", "p2", "p3", "p4")
POLICIES = ("q0", "q1", "q2")
ROUTES = ("r0", "r1", "r2", "r3")
NAMES = {"a.example": "10.0.0.9", "b.example": "203.0.113.9"}
NETWORKS = ("10.0.0.0/24", "10.0.0.0/24", "10.0.0.0/16", "10.0.0.9/32", "2001:db8::/48")
MEDDLING = ("ruleset", "routes", "rules", "peers", "addresses", "link", "forwarding")

BLOWS = ("dead", "frozen", "legless", "draining")

Event = tuple[Any, ...]


class Chance:
    """What happens in the world of one seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def population(self) -> Commit:
        """Everybody, and everything there can be."""
        policies, routes = map(self._policy, POLICIES), map(self._route, ROUTES)
        return builders.commit(*map(builders.group, GROUPS), *map(self._peer, PEERS), *policies, *routes)

    def events(self, count: int) -> list[Event]:
        return [self._event() for _ in range(count)]

    def _event(self) -> Event:
        host = self._one(PEERS)
        kinds: tuple[Event, ...] = (
            ("commit", self._commit()),
            ("commit", self._commit()),
            ("hear", host, self._random.randint(1, 9)),
            ("work", host, self._one((None, 0, 1, 2, 3, 4, 5, 6))),
            ("miss", host),
            ("lose", host),
            ("return", host, self._one((True, False))),
            ("stall", host),
            ("catch up", host),
            ("read", host, self._random.randint(1, 4)),
            ("read", host, self._random.randint(1, 4)),
            ("deafen", host),
            ("overrun", host),
            ("elect",),
            ("pass", self._one((0.1, 0.7, 1.5, 3.0))),
            ("crash", host),
            ("meddle", host, self._one(MEDDLING)),
            ("expire",),
            ("befall", host, self._one((*BLOWS, *BLOWS, "nothing"))),
            ("befall", host, self._one((*BLOWS, "nothing", "nothing"))),
            ("flap", host, self._one((1, 2, 3, 5))),
        )
        chosen: Event = self._one(kinds)
        return chosen

    def _commit(self) -> Commit:
        """Mostly one new or changed entity, sometimes a deletion, sometimes several at once."""
        made: dict[str, Entity] = {}
        gone: set[Ref] = set()
        for _ in range(self._one((1, 1, 1, 2, 3))):
            kind, names = self._one((("peer", PEERS), ("group", GROUPS), ("policy", POLICIES), ("route", ROUTES)))
            name = self._one(names)
            if self._often():
                make = {"peer": self._peer, "group": builders.group, "policy": self._policy, "route": self._route}
                made[name] = make[kind](name)
            else:
                gone.add(Ref(kind, name))
        return builders.commit(*made.values(), deletes=sorted(ref for ref in gone if ref.id not in made))

    def _peer(self, name: str) -> Entity:
        return builders.peer(name, *self._some(GROUPS))

    def _policy(self, name: str) -> Entity:
        rules = [self._rule(f"{name}-{number}") for number in range(self._random.randint(1, 2))]
        return builders.policy(name, *rules, enabled=self._often())

    def _rule(self, name: str) -> PolicyRule:
        plain = builders.rule(
            name,
            enabled=self._often(),
            action=self._one(("accept", "accept", "accept", "drop")),
            bidirectional=self._often(),
            sources=self._some((*GROUPS, ALL)),
            destinations=self._some((*GROUPS, ALL)),
        )
        ports = self._one(({}, {}, {"ports": ("443", "80")}, {"port_ranges": (PortRange(1, 90),)}))
        if ports:
            plain = replace(plain, protocol="tcp", **ports)
        if not self._often():
            plain = replace(plain, sources=(), source_resource=self._resource())
        return plain if self._often() else replace(plain, destinations=(), destination_resource=self._resource())

    def _resource(self) -> ResourceRef:
        return ResourceRef(id=self._one(PEERS), type="peer")

    def _route(self, name: str) -> Entity:
        domains = self._one(((), (), (), ("a.example",), tuple(NAMES)))
        routing = {"peer": self._one(PEERS)} if self._one((True, False)) else {"peer_groups": self._some(GROUPS)}
        return builders.route(
            name,
            network="" if domains else self._one(NETWORKS),
            network_id=self._one(("n0", "n1")),
            domains=domains,
            enabled=self._often(),
            groups=self._some((*GROUPS, ALL)),
            access_control_groups=self._one(((), self._some(GROUPS))),
            metric=self._random.randint(1, 3),
            **routing,
        )

    def _often(self) -> bool:
        return self._random.random() < 0.8

    def _one(self, of: Sequence[Any]) -> Any:
        return self._random.choice(of)

    def _some(self, of: Sequence[str]) -> tuple[str, ...]:
        """One or two, seldom none."""
        return tuple(sorted(self._random.sample(of, self._one((0, 1, 1, 1, 2, 2)))))
