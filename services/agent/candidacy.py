"""Finds out what this host cannot carry now of what it serves, as soon as the kernel tells that something changed."""

import asyncio
import time
from collections.abc import Mapping

import structlog

from services.agent.cells import Watch, since
from services.agent.core.ha.candidacy import Candidacy, Reason, Seen
from services.agent.core.ha.leading import Leading, entrance, leading, questions
from services.agent.core.ha.standing import Carried, Verdict
from services.agent.core.ha.targets import verdict_of
from services.agent.core.intervals import Network
from services.agent.core.reconcile.steps import RULESET, Kind
from services.agent.core.reconcile.sysctls import FORWARD_V4, FORWARD_V6, forwarding_of
from services.agent.ports import GatewayDriver, HostChange, Kept, WaysDriver
from services.agent.situation import PassResult, Situation
from shared.bus.patience import Trouble
from shared.metrics import REGISTRY, Counter, Gauge
from shared.tasks import end_if_cancelled

APART_S = 0.1
SHARE = 0.1
"""Of a core, while notifications never end: 500 networks are looked at in 15 ms."""

CHECK_EVERY_S, TRY_AGAIN_S = 30.0, 1.0
LIMIT = 4096
"""Addresses asked about at once, in 40 ms; the routes of those beyond are carried unless something else is wrong."""

DECIDING: frozenset[Kind | HostChange] = frozenset({"addresses", "departed", "ways", "link", "rule", "route", "sysctl"})
"""What decides what a host can carry."""

log = structlog.get_logger()

_withdrawals = Counter(
    "whimbrel_agent_routes_withdrawn", "Routes that this host came to carry no more", ["cause"], registry=REGISTRY
)
_withdrawn = Gauge(
    "whimbrel_agent_withdrawn_routes", "Routes that this host serves and cannot carry", registry=REGISTRY
)


class CandidacyWatch:
    """Keeps `withdrawn` and `carried` true. kept: the ways of the last run, see core/ha/candidacy.py."""

    def __init__(
        self, situation: Situation, ways: WaysDriver, gateway: GatewayDriver, kept: Kept[dict[str, str]]
    ) -> None:
        self._situation = situation
        self._ways = ways
        self._gateway = gateway
        self._kept = kept
        self._candidacy = Candidacy(kept.value)
        self._passed: PassResult | None = None
        self._targets: Mapping[str, Verdict] = {}
        self._asked: dict[str, tuple[str, ...]] | None = None
        self._legs: frozenset[Network] = frozenset()
        self._routes: tuple[Leading, ...] = ()
        self._dirty = situation.dirty.value
        self._look_at: float | None = None
        self._watch = Watch(situation.passed, situation.dirty, situation.targets)
        self._reasons: Mapping[str, Reason] = {}
        self._unasked = Trouble("the kernel does not say what this host can carry", "the kernel says it again")
        self._unkept = Trouble("the ways into routed networks cannot be kept on disk", "they are kept on disk again")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            end_if_cancelled()
            await self._watch.wait(None if self._look_at is None else max(0.0, self._look_at - time.monotonic()))
            if self._is_in_doubt():
                began = time.monotonic()
                await self._look()
                await asyncio.sleep(max(APART_S, (time.monotonic() - began) / SHARE))

    def _is_in_doubt(self) -> bool:
        kinds = since(self._dirty, self._situation.dirty.value)
        self._dirty = self._situation.dirty.value
        has_passed, now = self._has_passed(), time.monotonic()
        is_due = self._look_at is not None and now >= self._look_at
        answered, self._targets = self._targets, self._situation.targets.value
        return has_passed or is_due or answered is not self._targets or bool(self._routes and kinds & DECIDING)

    def _has_passed(self) -> bool:
        """Whether the last pass left anything else than what was looked at; takes it over."""
        former, passed = self._passed, self._situation.passed.value
        self._passed = passed
        served = passed.desired.served
        if former is None and not served:
            return False  # nothing has passed yet, and what is known of the last run's routes stays
        if former and former.documents is passed.documents and former.desired.served == served:
            return former.errors != passed.errors
        faults = {one.route_id: one.fault for one in self._routes}
        self._routes, self._asked = leading(passed.documents, served, ipv6=passed.local.ipv6), None
        for one in self._routes:
            if one.fault and one.fault != faults.get(one.route_id):
                log.warning("a probe target is not asked", route=one.route_id, reason=one.fault)
        return True

    async def _look(self) -> None:
        """Ask the kernel, judge by what it says, and tell what differs."""
        passed = self._situation.passed.value
        try:
            seen, asked = await self._seen(passed)
        except OSError as problem:
            self._unasked.tell(problem)
            self._look_at = time.monotonic() + TRY_AGAIN_S
            return
        self._unasked.over()
        now = time.monotonic()
        found = self._candidacy.judge(self._routes, asked, seen, now)
        self._look_at = self._candidacy.look_again_at() or (now + CHECK_EVERY_S if self._routes else None)
        self._tell(found, passed)
        await self._keep()

    async def _seen(self, passed: PassResult) -> tuple[Seen, dict[str, tuple[str, ...]]]:
        overlay = passed.local.interface
        if not self._routes:
            return Seen(overlay=overlay), {}
        asked = self._questions(self._gateway.networks())
        device = self._gateway.device()
        settings = self._gateway.settings((FORWARD_V4, FORWARD_V6, forwarding_of(overlay)))
        addresses = dict.fromkeys(address for some in asked.values() for address in some)
        at_once = {address: address for address in list(addresses)[:LIMIT]}
        came_in = entrance(passed.documents, overlay)
        answers = await self._ways.ask(at_once, came_in) if device == "up" else {}
        legs = {forwarding_of(answer.device) for answer in answers.values() if answer.device}
        return Seen(
            overlay=overlay,
            device=device,
            trouble=next((error for (kind, _), error in passed.errors.items() if kind in ("link", "device")), ""),
            ruleset=passed.errors.get(RULESET, ""),
            settings={**self._gateway.settings(legs), **settings},
            answers=answers,
            targets=self._targets,
            unrepaired=any(("sysctl", path) in passed.errors for path in (FORWARD_V4, FORWARD_V6)),
        ), asked

    def _questions(self, legs: frozenset[Network]) -> dict[str, tuple[str, ...]]:
        """What to ask; computed anew when the routes or the legs are other ones."""
        if self._asked is None or self._legs != legs:
            self._asked, self._legs = questions(self._routes, legs), legs
        return self._asked

    def _tell(self, found: Mapping[str, Reason], passed: PassResult) -> None:
        """passed: what was looked at; by now there may be another one."""
        former, self._reasons = self._reasons, found
        routes = passed.documents.routes
        for route_id, reason in found.items():
            if route_id not in former:
                _withdrawals.labels(reason.cause).inc()
            if reason != former.get(route_id):
                about = {"route": route_id, "network": routes[route_id].network_id}
                log.warning("this host does not carry a route", **about, reason=reason.text)
        for route_id in former.keys() - found.keys():
            log.info("this host carries a route again", route=route_id)
        _withdrawn.set(len(found))
        withdrawn = {route_id: reason.text for route_id, reason in found.items()}
        carried = {one.route_id: self._carried(one, withdrawn.get(one.route_id, "")) for one in self._routes}
        if withdrawn != self._situation.withdrawn.value:
            self._situation.withdrawn.set(withdrawn)
        if carried != self._situation.carried.value:
            self._situation.carried.set(carried)

    def _carried(self, one: Leading, reason: str) -> Carried:
        probe = verdict_of(one.probe, self._targets) if one.probe else ""
        return Carried(reason=reason, probe=probe, fault=one.fault)

    async def _keep(self) -> None:
        ways = dict(self._candidacy.ways)
        if ways == self._kept.value:
            return
        try:
            await asyncio.to_thread(self._kept.keep, ways)
            self._unkept.over()
        except OSError as problem:
            self._unkept.tell(problem)
