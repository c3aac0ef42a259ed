"""DNS labels of peers, made of host names (reference control-plane §5.6)."""

import itertools
import re
import unicodedata
from collections.abc import Iterator

from services.management.core.state import AccountState

MAX_LENGTH = 59
"""Longest label made of a name, as in NetBird."""

MAX_DNS_LENGTH = 63
"""Longest label there is (RFC 1035 §2.3.4)."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_ACE = "xn--"


def label_of(name: str) -> str:
    """The first part of a host name as a DNS label of at most MAX_LENGTH; "" when nothing of it can stand in one.

    Lower case, hyphens for what is neither letter nor digit, then punycode: "Jürgen's Mac.lan" → "xn--jrgen-s-mac-thb".
    """
    first = unicodedata.normalize("NFKC", name).lower().split(".", 1)[0][:MAX_LENGTH]
    text = "".join(c if c.isalnum() else "-" for c in first).strip("-")
    while len(label := _encoded(text)) > MAX_LENGTH:
        text = text[:-1].rstrip("-")
    return label


def is_label(text: str) -> bool:
    """Whether it can be an extra DNS label as it stands."""
    return _LABEL.match(text) is not None


def free_label(state: AccountState, wanted: str, address_v4: str, *, own_id: str = "", suffixed: bool = False) -> str:
    """`wanted` if no other peer has it, else with the last two numbers of the peer's address, else counted on.

    suffixed: never `wanted` alone, as for ephemeral peers. own_id: the peer that is renamed.
    """
    return next(label for label in _labels(wanted, address_v4, suffixed) if not state.label_holders(label) - {own_id})


def _labels(wanted: str, address_v4: str, suffixed: bool) -> Iterator[str]:
    if not suffixed:
        yield wanted
    numbers = "-".join(address_v4.split(".")[2:])
    yield _with(wanted, f"-{numbers}")
    for count in itertools.count(2):
        yield _with(wanted, f"-{numbers}-{count}")


def _with(label: str, suffix: str) -> str:
    return label[: MAX_DNS_LENGTH - len(suffix)].rstrip("-") + suffix


def _encoded(text: str) -> str:
    return text if text.isascii() else _ACE + text.encode("punycode").decode()
