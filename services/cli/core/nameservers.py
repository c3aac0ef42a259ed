"""Nameservers as people write them."""

import re
from typing import Any

DNS_PORT = 53

_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})")


def nameserver(text: str) -> dict[str, Any]:
    """As the API takes it, which also judges the address: "10.0.0.53", "10.0.0.53:5300", "[fd00::53]:5300"."""
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        return {"ip": text.removeprefix("[").removesuffix("]"), "ns_type": "udp", "port": DNS_PORT}
    v6, other, port = found.groups()
    return {"ip": v6 or other or "", "ns_type": "udp", "port": int(port)}


def written(server: dict[str, Any]) -> str:
    """A nameserver of the API as people write it, without the usual port."""
    ip, port = server["ip"], server["port"]
    if port == DNS_PORT:
        return str(ip)
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
