"""Keys of the bus (nkeys: 32 bytes with a readable prefix): they identify connections, or seal what admission reads."""

import secrets
from pathlib import Path
from typing import Literal, TypeAlias

import nkeys
from nacl.public import PrivateKey, PublicKey

from shared import files, nkey
from shared.errors import CorruptFile

Kind: TypeAlias = Literal["user", "account", "curve"]
"""user and account sign (Ed25519), curve seals (X25519)."""

_CURVE_BYTE = 23 << 3
_PREFIXES: dict[Kind, int] = {
    "user": nkeys.PREFIX_BYTE_USER,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "curve": _CURVE_BYTE,
}


def new_seed(kind: Kind) -> str:
    """A new private key as text."""
    prefix = _PREFIXES[kind]
    head = bytes([nkeys.PREFIX_BYTE_SEED | prefix >> 5, (prefix & 31) << 3])
    return nkey.encode(head + secrets.token_bytes(32))


def public_key(seed: str) -> str:
    """The public key that belongs to a seed, as text; raises nkeys.NkeysError for what is no seed."""
    body = _body(seed)
    if len(body) == 34 and body[0] & 7 == _CURVE_BYTE >> 5 and body[1] == (_CURVE_BYTE & 31) << 3:
        return nkey.encode(bytes([_CURVE_BYTE]) + bytes(curve_key(seed).public_key))
    return bytes(nkeys.from_seed(seed.encode()).public_key).decode()


def curve_key(seed: str) -> PrivateKey:
    """The private key of a curve seed."""
    return PrivateKey(_body(seed)[2:])


def public_bytes(text: str) -> bytes:
    """The 32 bytes of a public key of any kind; raises nkeys.NkeysError for what is none."""
    body = _body(text)
    if len(body) != 33:
        raise nkeys.ErrInvalidPublicKey
    return body[1:]


def public_curve_key(text: str) -> PublicKey:
    """A public curve key from its text; raises nkeys.NkeysError for what is none."""
    if _body(text)[0] != _CURVE_BYTE:
        raise nkeys.ErrInvalidPublicKey
    return PublicKey(public_bytes(text))


def _body(text: str) -> bytes:
    """Prefix and key without the checksum, which is right."""
    try:
        return nkey.decode(text)
    except ValueError:
        raise nkeys.ErrInvalidEncoding from None


def read_seed(path: Path) -> str:
    """The seed in a credentials file; raises CorruptFile when it holds none or cannot be read."""
    try:
        seed = path.read_text(errors="replace").strip()
        public_key(seed)
    except OSError as problem:
        reason = f"this key file cannot be read ({problem.strerror}): put it back, or name it with --credentials"
        raise CorruptFile(path, reason) from None
    except nkeys.NkeysError:
        raise CorruptFile(path, "it holds no nkey seed: put the service's credentials back") from None
    return seed


def seed_file(path: Path, kind: Kind) -> str:
    """The seed kept in `path`, made on first use."""
    if not path.exists():
        files.write(path, f"{new_seed(kind)}\n".encode())
    return read_seed(path)
