"""New identifiers: 20 lower-case characters that sort by time of making (xid, as NetBird's)."""

import itertools
import os
import secrets
import time
import uuid

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_machine = secrets.token_bytes(3)
_counter = itertools.count(secrets.randbits(24))


def new_id() -> str:
    """4 bytes of unix seconds, 3 of the process's choice, 2 of its pid, 3 of a counter, in base32hex."""
    number = next(_counter) & 0xFFFFFF
    raw = int(time.time()).to_bytes(4, "big") + _machine + (os.getpid() & 0xFFFF).to_bytes(2, "big")
    bits = int.from_bytes(raw + number.to_bytes(3, "big"), "big") << 4
    return "".join(_ALPHABET[bits >> shift & 31] for shift in range(95, -1, -5))


def new_setup_key() -> str:
    """A setup key in clear text: a random upper-case UUID."""
    return str(uuid.uuid4()).upper()
