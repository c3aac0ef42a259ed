"""The lab's hosts and cables.

    client ──┐
             ├── underlay (bridge, control plane)
    gateway ─┘
       └──── lan (no agent, a web server)

Every name starts with the lab's own, so that several labs live side by side.
"""

from pathlib import Path

from deploy.lab.netns import Namespace, address, connect

UNDERLAY_V4 = "10.99.0.1"
CLIENT_V4 = "10.99.0.10"
GATEWAY_V4 = "10.99.0.20"
LAN_V4 = "192.168.77.0/24"
LAN_V6 = "fd00:77::/64"
LAN_GATEWAY_V4 = "192.168.77.1"
LAN_GATEWAY_V6 = "fd00:77::1"
LAN_HOST_V4 = "192.168.77.10"
LAN_HOST_V6 = "fd00:77::10"
WEB_PORT = 8080
API_PORT = 8080
BUS_PORT = 4222

HOSTS = ("underlay", "client", "gateway", "lan")


class Topology:
    """The four hosts of one lab; `directory` holds what they keep in files."""

    def __init__(self, name: str, directory: Path) -> None:
        self.hosts = {host: Namespace(f"whimbrel-{name}-{host}", directory / host / "wireguard") for host in HOSTS}
        self.underlay, self.client, self.gateway, self.lan = (self.hosts[host] for host in HOSTS)

    def build(self) -> None:
        """Make hosts, cables and addresses; raises CommandFailed and leaves what was made to `remove`."""
        for host in self.hosts.values():
            host.create()
        self.underlay.ip("link", "add", "wan", "type", "bridge")
        self.underlay.ip("link", "set", "wan", "up")
        for host, port in ((self.client, "client"), (self.gateway, "gateway")):
            connect(self.underlay, port, host, "eth0")
            self.underlay.ip("link", "set", port, "master", "wan")
        connect(self.gateway, "lan0", self.lan, "eth0")
        for host, interface, prefixes in (
            (self.underlay, "wan", (f"{UNDERLAY_V4}/24", "fd00:99::1/64")),
            (self.client, "eth0", (f"{CLIENT_V4}/24", "fd00:99::10/64")),
            (self.gateway, "eth0", (f"{GATEWAY_V4}/24", "fd00:99::20/64")),
            (self.gateway, "lan0", (f"{LAN_GATEWAY_V4}/24", f"{LAN_GATEWAY_V6}/64")),
            (self.lan, "eth0", (f"{LAN_HOST_V4}/24", f"{LAN_HOST_V6}/64")),
        ):
            for prefix in prefixes:
                address(host, interface, prefix)

    def return_route(self, overlay: str) -> None:
        """Tell the LAN host that the overlay is behind the gateway, as masquerade off asks for."""
        via = LAN_GATEWAY_V6 if ":" in overlay else LAN_GATEWAY_V4
        self.lan.ip("route", "replace", overlay, "via", via)

    def leave(self) -> None:
        for host in self.hosts.values():
            host.leave()

    def remove(self) -> None:
        """Remove every host that exists. Processes in them must have ended."""
        for host in self.hosts.values():
            host.remove()
