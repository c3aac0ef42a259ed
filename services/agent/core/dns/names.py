"""Names as the local resolver compares them: labels from the left, ASCII letters in lower case, other bytes as is.

A label may hold any byte, a dot as well, so that names are compared label by label and never as text.
"""

from typing import TypeAlias

import dns.name

Labels: TypeAlias = tuple[str, ...]
"""() is the root. Each label is Latin-1: one character stands for one byte."""


def labels_of(name: dns.name.Name) -> Labels:
    """Of a name in a message, whichever way its letters are written."""
    return tuple(label.lower().decode("latin-1") for label in name.labels if label)


def labels(domain: str) -> Labels:
    """Of a domain in a document, with or without a trailing dot; "" is the root."""
    return tuple(domain.rstrip(".").lower().split(".")) if domain.rstrip(".") else ()


def text(name: Labels) -> str:
    """For people and documents; the root is ".". Bytes that names of hosts do not have are escaped."""
    return dns.name.Name([label.encode("latin-1") for label in (*name, "")]).to_text(omit_final_dot=True) or "."
