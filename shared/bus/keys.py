"""Keys that identify connections to the bus (nkeys: Ed25519 with a readable prefix)."""

import os
from pathlib import Path

import nkeys
from nacl.signing import SigningKey

from shared.errors import CorruptFile


def new_seed(kind: str) -> str:
    """A new private key as text. kind: "user" or "account"."""
    prefix = {"user": nkeys.PREFIX_BYTE_USER, "account": nkeys.PREFIX_BYTE_ACCOUNT}[kind]
    return bytes(nkeys.encode_seed(bytes(SigningKey.generate()), prefix)).decode()


def public_key(seed: str) -> str:
    """The public key that belongs to a seed, as text; raises nkeys.NkeysError for what is no seed."""
    return bytes(nkeys.from_seed(seed.encode()).public_key).decode()


def write_secret(path: Path, text: str) -> None:
    """Write `text` to a file of mode 0600: durable once this returns, and never partly there."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_seed(path: Path) -> str:
    """The seed in a credentials file; raises CorruptFile when it holds none."""
    seed = path.read_text().strip()
    try:
        public_key(seed)
    except nkeys.NkeysError:
        raise CorruptFile(path, "it holds no nkey seed: put the service's credentials back") from None
    return seed


def seed_file(path: Path, kind: str) -> str:
    """The seed kept in `path`, made on first use."""
    if not path.exists():
        write_secret(path, new_seed(kind) + "\n")
    return read_seed(path)
