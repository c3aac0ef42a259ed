"""WireGuard's keys."""

import base64

from nacl.bindings import crypto_scalarmult
from nacl.exceptions import CryptoError

KEY_BYTES = 32
"""Length of a Curve25519 key."""

_ANY_SECRET = bytes((1,)) * KEY_BYTES


def is_public_key(text: str) -> bool:
    """Whether the text is a public key in base64, in the one way to write it, and a secret can be agreed on with it.

    With a point of small order nobody can: the secret is zero whatever the other key is, and what seals or opens with
    it fails (RFC 7748 section 6.1).
    """
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    if len(key) != KEY_BYTES or base64.b64encode(key).decode() != text:
        return False
    try:
        crypto_scalarmult(_ANY_SECRET, key)
    except CryptoError:
        return False
    return True
