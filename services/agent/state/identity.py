"""Who this host is: its keys and, once enrolled, its account and peer id.

Keys are on disk before they are used, so that an enrolment that was cut off is repeated with the same keys, which gives
the same peer.
"""

import base64
from pathlib import Path

import msgspec
import nkeys
from nacl.public import PrivateKey

from services.agent.errors import CorruptState
from shared import files
from shared.bus import keys

FILE = "identity.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """wireguard_key: private, base64. bus_seed: nkey seed. account, peer_id: "" until enrolled."""

    wireguard_key: str
    bus_seed: str
    account: str = ""
    peer_id: str = ""

    @property
    def enrolled(self) -> bool:
        return bool(self.account and self.peer_id)

    @property
    def private_key(self) -> PrivateKey:
        return PrivateKey(base64.b64decode(self.wireguard_key, validate=True))

    @property
    def public_key(self) -> str:
        """The WireGuard public key, base64."""
        return base64.b64encode(bytes(self.private_key.public_key)).decode()

    @property
    def bus_key(self) -> str:
        return keys.public_key(self.bus_seed)

    def __repr__(self) -> str:
        return f"Identity(account={self.account!r}, peer_id={self.peer_id!r})"


def load(directory: Path) -> Identity | None:
    """The identity kept in `directory`, None when there is none; raises CorruptState with the file set aside."""
    file = directory / FILE
    if not file.exists():
        return None
    try:
        identity = msgspec.json.decode(file.read_bytes(), type=Identity)
        _ = identity.public_key, identity.bus_key
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, nkeys.NkeysError):
        aside = files.set_aside(file, "corrupt")
        raise CorruptState(
            f"{file} is corrupt and was set aside as {aside.name}: put a copy back, or enrol anew with --setup-key",
            str(aside),
        ) from None
    return identity


def create(directory: Path) -> Identity:
    """New keys, durable in `directory`."""
    identity = Identity(
        wireguard_key=base64.b64encode(bytes(PrivateKey.generate())).decode(), bus_seed=keys.new_seed("user")
    )
    save(directory, identity)
    return identity


def save(directory: Path, identity: Identity) -> None:
    files.write(directory / FILE, msgspec.json.encode(identity) + b"\n")
