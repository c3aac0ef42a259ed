"""The lab's hosts and cables.

    client ────┐
               ├── underlay (bridge, control plane)
    gateway ───┤
    gateway2 ──┘            as many as the lab asks for
       │
       └────────── lan (bridge, no agent, a web server)

Every name starts with the lab's own, so that several labs live side by side. Each gateway has a cable of its own into
both bridges, called after it there: what happens to that end is nothing the gateway is told of.
"""

from pathlib import Path

from deploy.lab.netns import Namespace, address, connect

UNDERLAY_V4 = "10.99.0.1"
CLIENT_V4 = "10.99.0.10"
LAN_V4 = "192.168.77.0/24"
LAN_V6 = "fd00:77::/64"
LAN_GATEWAY_V4 = "192.168.77.1"
LAN_GATEWAY_V6 = "fd00:77::1"
LAN_HOST_V4 = "192.168.77.10"
LAN_HOST_V6 = "fd00:77::10"
WEB_PORT = 8080
API_PORT = 8080
BUS_PORT = 4222

GATEWAYS = ("gateway", "gateway2", "gateway3")
HOSTS = ("underlay", "client", *GATEWAYS, "lan")
"""Every name a lab's host may have."""

_BRIDGES = {"wan": "02:00:00:00:99:01", "lan": "02:00:00:00:77:10"}
"""With an address of their own, they keep it when a port comes or goes."""


class Topology:
    """The hosts of one lab. `directory` holds what they keep in files; gateways: how many, at most len(GATEWAYS)."""

    def __init__(self, name: str, directory: Path, gateways: int = 1) -> None:
        self.gateways = GATEWAYS[:gateways]
        names = (host for host in HOSTS if host in self.gateways or host not in GATEWAYS)
        self.hosts = {host: Namespace(f"whimbrel-{name}-{host}", directory / host / "wireguard") for host in names}
        self.underlay, self.client, self.lan = (self.hosts[host] for host in ("underlay", "client", "lan"))

    @property
    def gateway(self) -> Namespace:
        return self.hosts["gateway"]

    def build(self) -> None:
        """Make hosts, cables and addresses; raises CommandFailed and leaves what was made to `remove`."""
        for host in self.hosts.values():
            host.create()
        for host, bridge in ((self.underlay, "wan"), (self.lan, "lan")):
            host.ip("link", "add", bridge, "address", _BRIDGES[bridge], "type", "bridge")
            host.ip("link", "set", bridge, "up")
        for host, interface, prefixes in (
            (self.underlay, "wan", (f"{UNDERLAY_V4}/24", "fd00:99::1/64")),
            (self.lan, "lan", (f"{LAN_HOST_V4}/24", f"{LAN_HOST_V6}/64")),
        ):
            for prefix in prefixes:
                address(host, interface, prefix)
        self._plug("client", "eth0", self.underlay, "wan", (f"{CLIENT_V4}/24", "fd00:99::10/64"))
        for number, gateway in enumerate(self.gateways):
            self._plug(
                gateway, "eth0", self.underlay, "wan", (f"{underlay_address(gateway)}/24", f"fd00:99::{20 + number}/64")
            )
            lan_v4, lan_v6 = lan_addresses(gateway)
            self._plug(gateway, "lan0", self.lan, "lan", (f"{lan_v4}/24", f"{lan_v6}/64"))

    def _plug(self, name: str, interface: str, into: Namespace, bridge: str, prefixes: tuple[str, ...]) -> None:
        host = self.hosts[name]
        connect(into, name, host, interface)
        into.ip("link", "set", name, "master", bridge)
        for prefix in prefixes:
            address(host, interface, prefix)

    def return_route(self, overlay: str, via: str = "") -> None:
        """Tell the LAN host that the overlay is behind the gateway, or `via`, as masquerade off asks for."""
        usual = LAN_GATEWAY_V6 if ":" in overlay else LAN_GATEWAY_V4
        self.lan.ip("route", "replace", overlay, "via", via or usual)

    def leave(self) -> None:
        for host in self.hosts.values():
            host.leave()

    def remove(self) -> None:
        """Remove every host that exists. Processes in them must have ended."""
        for host in self.hosts.values():
            host.remove()


def underlay_address(gateway: str) -> str:
    return f"10.99.0.{20 + GATEWAYS.index(gateway)}"


def lan_addresses(gateway: str) -> tuple[str, str]:
    """IPv4 and IPv6 address of a gateway in the LAN."""
    number = 1 + GATEWAYS.index(gateway)
    return f"192.168.77.{number}", f"fd00:77::{number}"
