"""Where the scenes play: a client, two gateways into one LAN, later a third, and a pulse from the client to the LAN."""

import sys
from datetime import datetime
from typing import Any

from deploy.lab import intent
from deploy.lab.agentsocket import ask
from deploy.lab.ha.pulse import Pulse
from deploy.lab.lab import Lab, LabFailed
from deploy.lab.netns import Namespace, run
from deploy.lab.probes import until
from deploy.lab.topology import GATEWAYS, LAN_HOST_V4, LAN_V4
from services.agent.core.kernel import INTERFACE

NETWORK_ID = "lab-lan"
METRIC = 100
SETTLE_LIMIT_S = 60.0
LOOK_S = 0.05
STEADY = 10
"""Answered requests in a row, after which traffic flows."""


class Stage:
    """The lab with its hosts enrolled and one route for each gateway, all with one network id, prefix and metric.

    Of gateways with equal metrics the one that carries the LAN goes on with it, so that a scene begins as soon as the
    one before is mended, and needs no failback in between.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.gateways: list[str] = []
        self._ids: dict[str, str] = {}
        self._overlay: dict[str, str] = {}
        self._routes: dict[str, str] = {}
        self._file = lab.directory / "pulse"
        self._pulse: Pulse | None = None
        client = lab.topology.client
        self._look = Namespace(client.name, client.wireguard)
        """The client with a thread of its own, so that looking waits for nobody."""

    @property
    def pulse(self) -> Pulse:
        if self._pulse is None:
            raise LabFailed("the pulse begins with `build`")
        return self._pulse

    def build(self) -> None:
        """From nothing to settled; raises LabFailed."""
        self.lab.build()
        clients, gateways = intent.group(self.lab, "clients"), intent.group(self.lab, "gateways")
        self._ids |= {"clients": clients, "gateways": gateways}
        self._ids["client"] = intent.enrol(self.lab, "client", clients).id
        intent.only_policy(self.lab, clients, gateways)
        self.add_gateway()
        self.add_gateway()
        self._pulse = Pulse(self._file)
        self.begin_pulse()
        self.settle()

    def begin_pulse(self) -> None:
        """Go on with the pulse as another flow: whether one is masqueraded is decided by its first packet."""
        self.lab.processes.stop(["pulse"])
        words = (sys.executable, "-m", "deploy.lab.ha.sender", str(self._file), LAN_HOST_V4)
        self.lab.processes.start("pulse", self.lab.topology.client, words)

    def add_gateway(self) -> str:
        """Enrol the next gateway and give it a route into the LAN."""
        name = GATEWAYS[len(self.gateways)]
        enrolled = intent.enrol(self.lab, name, self._ids["gateways"])
        self._ids[name], self._overlay[name] = enrolled.id, enrolled.v4
        self.gateways.append(name)
        self._routes[name] = self.lab.api("POST", "/routes", self._route(name))["id"]
        return name

    def put_routes(self, metrics: dict[str, int] | None = None, **fields: Any) -> None:
        """Replace the routes of all gateways: as at the start, but for these fields. metrics: gateway → its metric."""
        for name in self.gateways:
            metric = (metrics or {}).get(name, METRIC)
            self.lab.api("PUT", f"/routes/{self._routes[name]}", self._route(name, metric=metric, **fields))

    def _route(self, gateway: str, **fields: Any) -> dict[str, Any]:
        route = {
            "description": "the LAN behind the gateways",
            "network_id": NETWORK_ID,
            "network": LAN_V4,
            "peer": self._ids[gateway],
            "metric": METRIC,
            "masquerade": True,
            "enabled": True,
            "keep_route": False,
            "groups": [self._ids["clients"]],
        }
        return route | fields

    def peer(self, host: str) -> str:
        """The id of a host's peer."""
        return self._ids[host]

    def overlay(self, gateway: str) -> str:
        """Its IPv4 address in the overlay."""
        return self._overlay[gateway]

    def host(self, name: str) -> Namespace:
        return self.lab.topology.hosts[name]

    def carrier(self) -> str:
        """The gateway that the client's kernel sends to the LAN, "" for none."""
        keys = {key: name for name in self.gateways if (key := self._key(name))}
        for line in self._look.call(run, "wg", "show", INTERFACE, "allowed-ips").splitlines():
            key, _, prefixes = line.partition("\t")
            if LAN_V4 in prefixes.split():
                return keys.get(key, "")
        return ""

    def _key(self, gateway: str) -> str:
        status = ask(self.lab.socket("client"), "status")
        peers = status["peers"]["details"] if status else []
        return next((str(peer["publicKey"]) for peer in peers if peer["peerId"] == self._ids[gateway]), "")

    def usable(self) -> set[str]:
        """The gateways that the client could use now, by its own word."""
        networks = ask(self.lab.socket("client"), "networks") or []
        usable = {peer["peerId"] for network in networks for peer in network["routingPeers"] if _is_usable(peer)}
        return {name for name in self.gateways if self._ids[name] in usable}

    def returning(self) -> bool:
        """Whether the gateway that carries has the return address, by the word of all gateways."""
        carrier, known = self.carrier(), self._return_addresses()
        holders = {name: [one["heldHere"] or one["holder"] for one in found] for name, found in known.items()}
        wanted = {name: [True if name == carrier else self._ids[carrier]] for name in known} if carrier else {}
        return carrier != "" and holders == wanted

    def returns_nothing(self) -> bool:
        """Whether no gateway knows of a return address any more."""
        return not any(self._return_addresses().values())

    def _return_addresses(self) -> dict[str, list[dict[str, Any]]]:
        """Gateway → what it says of them; of one whose agent does not run, nothing."""
        statuses = {name: ask(self.lab.socket(name), "status") for name in self.gateways}
        return {name: status["returnAddresses"] for name, status in statuses.items() if status}

    def probing(self) -> bool:
        """Whether all gateways have asked the probe target of their route, and were answered, by their own word."""
        statuses = [ask(self.lab.socket(name), "status") for name in self.gateways]
        return all(status and any(one["probe"] == "up" for one in status["served"]) for status in statuses)

    def switches(self, since: float) -> list[str]:
        """Why the client changed its gateway after that moment (unix seconds)."""
        history = ask(self.lab.socket("client"), "history") or []
        return [one["reason"] for one in history if datetime.fromisoformat(one["at"]).timestamp() > since]

    def on_the_bus(self) -> set[str]:
        """The hosts that have a session."""
        hosts = {host: ask(self.lab.socket(host), "status") for host in ("client", *self.gateways)}
        return {name for name, status in hosts.items() if status and status["management"]["connected"]}

    def settled(self) -> bool:
        return (
            self.pulse.steady(STEADY)
            and self.usable() == set(self.gateways)
            and self.on_the_bus() == {"client", *self.gateways}
            and self.carrier() != ""
        )

    def settle(self) -> None:
        """Come back when everything is as it should be; raises LabFailed."""
        if not until(self.settled, SETTLE_LIMIT_S, LOOK_S):
            raise LabFailed(
                f"not settled after {SETTLE_LIMIT_S:g} s: {self.carrier() or 'nobody'} carries, usable are "
                f"{sorted(self.usable())}, on the bus {sorted(self.on_the_bus())}, "
                f"traffic {'flows' if self.pulse.steady(STEADY) else 'does not flow'}"
            )

    def close(self) -> None:
        """Stop looking; the lab itself is somebody else's to remove."""
        self._look.leave()
        if self._pulse is not None:
            self._pulse.close()


def _is_usable(peer: dict[str, Any]) -> bool:
    """The first two of a set are asked over the tunnel, and have answered. Damped is who fell often."""
    return peer["state"] in ("in use", "standby", "ready", "damped") and (peer["latency"] > 0 or peer["rank"] > 2)
