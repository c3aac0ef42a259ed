"""The routes this host forwards for, kept up to date route by route."""

from collections import Counter
from collections.abc import Mapping

from msgspec.structs import replace

from services.agent.core.changes import changed, patched
from services.agent.core.firewall.permits import fault, made_usable, route_matches
from services.agent.core.firewall.served import Served
from services.agent.core.parsed import Resolution, Route
from services.agent.core.routing.destinations import Overlay, destinations
from services.agent.core.routing.hagroups import serves
from shared.events.documents import RuleDoc, SelfDoc


class Serving:
    """served, ids: the routes this host forwards for. skipped: route id → why it does not, or not wholly. versions: 4
    and 6 as far as a route leads there, or may as soon as somebody asks for one of its names.

    forwarder: whether clients have names resolved here.
    """

    def __init__(self, me: SelfDoc | None, overlay: Overlay, *, forwarder: bool = False) -> None:
        self._peer_id = me.peer_id if me is not None else None
        self._overlay = overlay
        self._forwarder = forwarder
        self._routes: Mapping[str, Route] = {}
        self._resolutions: Mapping[str, Resolution] = {}
        self._rules: Mapping[str, RuleDoc] = {}
        self._by_rule: dict[str, set[str]] = {}
        self._leading: Counter[int] = Counter()
        self.served: Mapping[str, Served] = {}
        self.ids: frozenset[str] = frozenset()
        self.skipped: Mapping[str, str] = {}

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(version for version, count in self._leading.items() if count)

    def update(
        self, routes: Mapping[str, Route], resolutions: Mapping[str, Resolution], rules: Mapping[str, RuleDoc]
    ) -> None:
        """Take the documents over."""
        others = changed(self._routes, routes) | changed(self._resolutions, resolutions)
        for rule_id in changed(self._rules, rules):
            others |= self._by_rule.get(rule_id, set())
        self._routes, self._resolutions, self._rules = routes, resolutions, rules
        found = {route_id: self._computed(route_id) for route_id in others}
        for route_id, (one, _) in found.items():
            self._count(self.served.get(route_id), -1)
            self._count(one, 1)
        self.skipped = patched(self.skipped, {route_id: reason or None for route_id, (_, reason) in found.items()})
        served = patched(self.served, {route_id: one for route_id, (one, _) in found.items()})
        if served.keys() != self.served.keys():
            self.ids = frozenset(served)
        self.served = served

    def _computed(self, route_id: str) -> tuple[Served | None, str]:
        """The route as this host forwards for it, and the reason why it does not, or not wholly."""
        route = self._routes.get(route_id)
        if self._peer_id is None or route is None or not serves(self._peer_id, route):
            return None, ""
        found = destinations(route, self._resolutions.get(route_id), self._overlay)
        if found.refused:
            return None, found.refused
        permits = route.permits or ()
        faults = [f"a permit of rule {permit.rule_id}: {fault(permit)}" for permit in permits if fault(permit)]
        usable = tuple(permit for permit in map(made_usable, permits) if permit is not None)
        one = Served(
            route_id=route_id,
            networks=found.networks,
            masquerade=route.masquerade,
            matches=route_matches(replace(route, permits=usable), self._rules),
            distribution=route.distribution,
            returned=bool(route.return_address) and not route.masquerade,
            learns=self._forwarder and bool(route.names),
        )
        return one, faults[0] if faults else ""

    def _count(self, one: Served | None, step: int) -> None:
        if one is None:
            return
        learned = {4, 6} if self._overlay.ipv6 else {4}
        for version in {network.version for network in one.networks} | (learned if one.learns else set()):
            self._leading[version] += step
        for rule_id in {match.origin.rule for match in one.matches}:
            if step > 0:
                self._by_rule.setdefault(rule_id, set()).add(one.route_id)
            else:
                self._by_rule[rule_id].discard(one.route_id)
