"""What the lab looks at inside a host. Every function runs in the host's thread (Namespace.call)."""

import http.client
import json
import socket
import time
from collections.abc import Callable

from nftables import Nftables

from deploy.lab.netns import Namespace, run
from services.agent.core.kernel import INTERFACE, NFT_TABLE, RULE_MAIN, RULE_OVERLAY, TABLE

POLL_S = 0.0005


def until(condition: Callable[[], bool], limit_s: float, poll_s: float = POLL_S) -> float | None:
    """The moment (time.perf_counter) at which the condition was first seen to hold; None if it never did."""
    end = time.perf_counter() + limit_s
    while True:
        if condition():
            return time.perf_counter()
        if time.perf_counter() > end:
            return None
        time.sleep(poll_s)


def source_towards(destination: str) -> str:
    """The address the kernel would send from, "" when it has no route. No packet is sent."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def fetch(destination: str, port: int, limit_s: float) -> str:
    """The body of GET / from a web server, or "failed: …" with the reason."""
    connection = http.client.HTTPConnection(destination, port, timeout=limit_s)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except OSError as problem:
        return f"failed: {problem.strerror or problem}"
    finally:
        connection.close()


class Ruleset:
    """Reads the host's nftables; keep one for a host's thread, so that a look takes no process."""

    def __init__(self) -> None:
        self._nft = Nftables()

    def _listing(self, kind: str, name: str) -> str:
        """What nft prints of a set or map of Whimbrel's table, "" when it is not there."""
        code, output, _ = self._nft.cmd(f"list {kind} inet {NFT_TABLE} {name}")
        return str(output) if code == 0 else ""

    def text(self) -> str:
        """Whimbrel's table as nft prints it, "" when there is none."""
        code, output, _ = self._nft.cmd(f"list table inet {NFT_TABLE}")
        return str(output) if code == 0 else ""

    def permits(self, prefix: str) -> bool:
        """Whether something may be forwarded to the destination."""
        return prefix in self._listing("map", f"permits_{_family(prefix)}")

    def masquerades(self, prefix: str) -> bool:
        """Whether what is forwarded to the destination gets the host's own address."""
        return prefix in self._listing("set", f"masquerade_{_family(prefix)}")


def _family(prefix: str) -> str:
    return "v6" if ":" in prefix else "v4"


def leftovers(host: Namespace) -> list[str]:
    """Everything of Whimbrel's that is still in a host's kernel, a line each."""
    found = [f"interface {INTERFACE}"] if f'"ifname":"{INTERFACE}"' in host.ip("-j", "link") else []
    for family in ("-4", "-6"):
        for rule in json.loads(host.ip("-j", family, "rule") or "[]"):
            if rule["priority"] in (RULE_MAIN, RULE_OVERLAY):
                found.append(f"rule {family} {rule['priority']}")
        for route in json.loads(host.ip("-j", family, "route", "show", "table", "all") or "[]"):
            if str(route.get("table")) == str(TABLE):
                found.append(f"route {family} {route['dst']}")
    tables = run(*host.command(["nft", "list", "tables"]))
    found.extend(f"nft {line}" for line in tables.splitlines() if NFT_TABLE in line)
    return found
