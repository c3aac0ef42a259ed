"""Nameservers as people write them."""

import re
from typing import Any

DNS_PORT, TLS_PORT = 53, 853

_TLS = "tls://"
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]{1,5})")


def nameserver(text: str) -> dict[str, Any]:
    """As the API takes it, which also judges the address: "10.0.0.53", "10.0.0.53:5300", "[fd00::53]:5300"."""
    ip, port = _place(text, DNS_PORT)
    return {"ip": ip, "ns_type": "udp", "port": port}


def upstream(text: str) -> dict[str, Any]:
    """The same, or "tls://10.0.0.53#dns.example" for DNS over TLS; the name is what its certificate is for."""
    if not text.startswith(_TLS):
        return nameserver(text) | {"name": ""}
    place, _, name = text.removeprefix(_TLS).partition("#")
    ip, port = _place(place, TLS_PORT)
    return {"ip": ip, "ns_type": "tls", "port": port, "name": name}


def written(server: dict[str, Any]) -> str:
    """A nameserver of the API as people write it, without the usual port."""
    ip, port, tls = server["ip"], server["port"], server["ns_type"] == "tls"
    place = str(ip)
    if port != (TLS_PORT if tls else DNS_PORT):
        place = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    return f"{_TLS}{place}{'#' if server['name'] else ''}{server['name']}" if tls else place


def _place(text: str, usual: int) -> tuple[str, int]:
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        return text.removeprefix("[").removesuffix("]"), usual
    v6, other, port = found.groups()
    return v6 or other or "", int(port)
