"""The text of nkeys: prefix bytes that say the kind, a key of 32 bytes and a checksum, in base32 without padding."""

import base64
import binascii

USER = 20 << 3
"""Prefix byte of a public user key, which makes its text start with U."""

KEY_BYTES = 32


def encode(body: bytes) -> str:
    """The text of prefix and key."""
    return base64.b32encode(body + _checksum(body)).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Prefix and key; raises ValueError when the text is none or its checksum (CRC-16, XMODEM) is wrong."""
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    body, checksum = raw[:-2], raw[-2:]
    if len(body) <= KEY_BYTES or _checksum(body) != checksum:
        raise ValueError("no nkey")
    return body


def is_public_user(text: str) -> bool:
    """Whether the text is the public key of a user."""
    try:
        body = decode(text)
    except ValueError:
        return False
    return len(body) == 1 + KEY_BYTES and body[0] == USER


def _checksum(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0).to_bytes(2, "little")
