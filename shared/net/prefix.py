"""IP prefixes as canonical text.

Everything in the system holds prefixes as text in one form, so that equal text means equal prefix.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

_LENGTH = re.compile(r"(0|[1-9][0-9]{0,2})\Z")
_MAPPED = IPv6Network("::ffff:0:0/96")


class BadPrefix(ValueError):
    """Write the prefix as address/length: `text` is what was read, the message says what is wrong with it."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text[:80]!r} is not a valid prefix: {problem}")
        self.text = text


def parse_prefix(text: str) -> str:
    """The prefix in canonical text with its host bits masked off (decision R6): "192.168.1.7/24" → "192.168.1.0/24".

    The length is required, a bare address is refused. IPv6 comes out as RFC 5952 wants it. IPv4 addresses written as
    IPv6 ("::ffff:10.0.0.0/104") are refused, no kernel would route them. Raises BadPrefix.
    """
    address, slash, length = text.partition("/")
    if not slash:
        raise BadPrefix(text, "add the prefix length, as in 10.0.0.0/8")
    if not _LENGTH.match(length) or "%" in address:
        raise BadPrefix(text, "write address/length, as in 10.0.0.0/8 or fd00::/8")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise BadPrefix(text, "write address/length, as in 10.0.0.0/8 or fd00::/8") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        raise BadPrefix(text, "write it as an IPv4 prefix")
    return str(network)


@lru_cache(maxsize=65_536)
def network(prefix: str) -> Network:
    """The prefix as an object to reckon with; `prefix` is canonical text, as parse_prefix gives it."""
    return ip_network(prefix)


def version(prefix: str) -> int:
    """4 or 6."""
    return 6 if ":" in prefix else 4


def is_default(prefix: str) -> bool:
    """Whether the prefix is the whole internet of its family: an exit route."""
    return prefix.endswith("/0")
