"""Keys of the bus (nkeys: 32 bytes with a readable prefix): they identify connections, or seal what admission reads."""

import base64
import binascii
import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import nkeys
from nacl.public import PrivateKey, PublicKey

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
    return _text(head + secrets.token_bytes(32))


def public_key(seed: str) -> str:
    """The public key that belongs to a seed, as text; raises nkeys.NkeysError for what is no seed."""
    body = _body(seed)
    if len(body) == 34 and body[0] & 7 == _CURVE_BYTE >> 5 and body[1] == (_CURVE_BYTE & 31) << 3:
        return _text(bytes([_CURVE_BYTE]) + bytes(curve_key(seed).public_key))
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


def _text(body: bytes) -> str:
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).rstrip(b"=").decode()


def _body(text: str) -> bytes:
    """Prefix and key without the checksum, which is right."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise nkeys.ErrInvalidEncoding from None
    body, checksum = raw[:-2], raw[-2:]
    if len(body) < 33 or binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise nkeys.ErrInvalidEncoding
    return body


def write_secret(path: Path, text: str) -> None:
    """Write `text` to a file of mode 0600: durable once this returns, and never partly there."""
    with secret_written(path, text):
        pass


@contextlib.contextmanager
def secret_written(path: Path, text: str) -> Iterator[None]:
    """As write_secret, around a block: it runs once there is a durable draft, which takes the file's place after it.

    The file is as it was when the draft cannot be written, and when the block fails.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with os.fdopen(new_secret(draft), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        draft.unlink(missing_ok=True)
        problem.filename = str(path)
        raise
    try:
        yield
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def new_secret(path: Path) -> int:
    """A descriptor of a new and empty file of mode 0600. What was there is gone: it may be somebody else's, or lead
    elsewhere."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


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
        write_secret(path, new_seed(kind) + "\n")
    return read_seed(path)
