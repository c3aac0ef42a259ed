"""The steps of `whimbrel lab run`: each changes something through the REST API alone and looks at the kernel."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from deploy.lab import intent, probes
from deploy.lab.checks import Check
from deploy.lab.lab import Lab, LabFailed
from deploy.lab.topology import (
    LAN_GATEWAY_V4,
    LAN_GATEWAY_V6,
    LAN_HOST_V4,
    LAN_HOST_V6,
    LAN_V4,
    LAN_V6,
    WEB_PORT,
)

LIMIT_S = 15.0
REQUEST_LIMIT_S = 2.0


class Scenario:
    """Runs the steps on a built lab. After a step the ids it made are in `ids`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ids: dict[str, str] = {}
        self.overlay: dict[str, dict[str, str]] = {}
        self._rulesets: dict[str, probes.Ruleset] = {}

    def steps(self) -> list[tuple[str, Callable[[], list[Check]]]]:
        """Title and function of each step, in order."""
        return [
            ("two hosts enrol, and a policy and a route connect them with the LAN", self.enrol_and_route),
            ("the client reaches the LAN's web server, behind the gateway's address", self.masqueraded),
            ("masquerade off: the LAN sees the client's own overlay address", self.without_masquerade),
            ("the route is disabled: nothing of it is left, the request fails", self.disabled),
        ]

    def enrol_and_route(self) -> list[Check]:
        api = self.lab.api
        for group in ("clients", "gateways"):
            self.ids[group] = intent.group(self.lab, group)
        checks = [self._enrol("client", "clients"), self._enrol("gateway", "gateways")]
        self.ids["policy"] = intent.only_policy(self.lab, self.ids["clients"], self.ids["gateways"])
        for name, prefix, metric in (("route", LAN_V4, 100), ("route-v6", LAN_V6, 100)):
            waiting = self.watch_installed(prefix)
            self.ids[name] = api("POST", "/routes", self._route(prefix, metric=metric))["id"]
            checks += self._timed(waiting)
        return checks

    def _enrol(self, host: str, group: str) -> Check:
        enrolled = intent.enrol(self.lab, host, self.ids[group])
        self.ids[host] = enrolled.id
        self.overlay[host] = {"v4": enrolled.v4, "v6": enrolled.v6}
        return Check(f"{host} enrolled as {enrolled.v4} and is connected, {enrolled.took_s:.1f} s after its start")

    def _route(self, prefix: str, **changes: Any) -> dict[str, Any]:
        route = {
            "description": "the LAN behind the gateway",
            "network_id": "lab-lan-v6" if ":" in prefix else "lab-lan",
            "network": prefix,
            "peer": self.ids["gateway"],
            "metric": 100,
            "masquerade": True,
            "enabled": True,
            "keep_route": False,
            "groups": [self.ids["clients"]],
        }
        return route | changes

    def put_route(self, prefix: str, **changes: Any) -> None:
        """Replace the route of a prefix through the API."""
        name = "route-v6" if ":" in prefix else "route"
        self.lab.api("PUT", f"/routes/{self.ids[name]}", self._route(prefix, **changes))

    def _ruleset(self, host: str) -> probes.Ruleset:
        if host not in self._rulesets:
            self._rulesets[host] = probes.Ruleset()
        return self._rulesets[host]

    def watch(self, host: str, condition: Callable[[probes.Ruleset], bool]) -> "Future[float | None]":
        """The moment a host's kernel first meets the condition; start it before the change."""

        def wait() -> float | None:
            ruleset = self._ruleset(host)
            return probes.until(lambda: condition(ruleset), LIMIT_S)

        return self.lab.topology.hosts[host].submit(wait)

    def routed(self, prefix: str) -> Callable[[probes.Ruleset], bool]:
        """Condition on the client: the kernel sends to the LAN host from the overlay address."""
        target, own = (LAN_HOST_V6, "v6") if ":" in prefix else (LAN_HOST_V4, "v4")
        return lambda _: probes.source_towards(target) == self.overlay["client"][own]

    def watch_installed(self, prefix: str) -> list[tuple[str, "Future[float | None]"]]:
        return [
            (f"client: {prefix} goes into the tunnel", self.watch("client", self.routed(prefix))),
            (f"gateway: {prefix} is permitted", self.watch("gateway", lambda r: r.permits(prefix))),
        ]

    def watch_gone(self, prefix: str) -> list[tuple[str, "Future[float | None]"]]:
        routed = self.routed(prefix)
        return [
            (f"client: the kernel route to {prefix} is gone", self.watch("client", lambda r: not routed(r))),
            (f"gateway: the permits for {prefix} are gone", self.watch("gateway", lambda r: not r.permits(prefix))),
        ]

    def _timed(self, waiting: list[tuple[str, "Future[float | None]"]]) -> list[Check]:
        answered = self.lab.api.answered_at
        checks = []
        for text, future in waiting:
            moment = future.result()
            if moment is None:
                raise LabFailed(f"not within {LIMIT_S:g} s: {text}")
            checks.append(Check(text, (moment - answered) * 1000))
        return checks

    def _fetch(self, target: str, limit_s: float = REQUEST_LIMIT_S) -> str:
        return self.lab.topology.client.call(probes.fetch, target, WEB_PORT, limit_s)

    def _expect_source(self, target: str, expected: str) -> Check:
        begin = time.perf_counter()
        seen = ""
        while time.perf_counter() - begin < LIMIT_S:
            seen = self._fetch(target)
            if seen == expected:
                return Check(f"HTTP to {target} through the tunnel: the LAN host saw {expected}")
            if not seen.startswith("failed"):
                time.sleep(0.02)
        raise LabFailed(f"HTTP to {target}: expected the LAN host to see {expected}, last try gave {seen!r}")

    def masqueraded(self) -> list[Check]:
        return [
            self._expect_source(LAN_HOST_V4, LAN_GATEWAY_V4),
            self._expect_source(LAN_HOST_V6, LAN_GATEWAY_V6),
        ]

    def without_masquerade(self) -> list[Check]:
        topology = self.lab.topology
        checks = []
        for prefix, target, own in ((LAN_V4, LAN_HOST_V4, "v4"), (LAN_V6, LAN_HOST_V6, "v6")):
            address = self.overlay["client"][own]
            topology.return_route(f"{address}/{128 if own == 'v6' else 32}")
            gone = self.watch("gateway", partial(_not_masqueraded, prefix))
            waiting = [(f"gateway: {prefix} is no longer masqueraded", gone)]
            self.put_route(prefix, masquerade=False)
            checks += self._timed(waiting)
            checks.append(self._expect_source(target, address))
        return checks

    def disabled(self) -> list[Check]:
        checks = []
        for prefix, target in ((LAN_V4, LAN_HOST_V4), (LAN_V6, LAN_HOST_V6)):
            waiting = self.watch_gone(prefix)
            self.put_route(prefix, masquerade=False, enabled=False)
            checks += self._timed(waiting)
            seen = self._fetch(target, 1.0)
            if not seen.startswith("failed"):
                raise LabFailed(f"HTTP to {target} still works, the LAN host saw {seen}")
            checks.append(Check(f"HTTP to {target} {seen}"))
        return checks


def _not_masqueraded(prefix: str, ruleset: probes.Ruleset) -> bool:
    return ruleset.permits(prefix) and not ruleset.masquerades(prefix)
