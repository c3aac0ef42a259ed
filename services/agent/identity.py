"""Who this host is: its keys and, once enrolled, its account and peer id, in the state directory.

The directory has mode 0700, the file 0600. Keys are on disk before they are used, so that an enrolment that was cut off
is repeated with the same keys, which gives the same peer.
"""

import base64
import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import TypeVar

import msgspec
import nkeys
from nacl.public import PrivateKey

from services.agent.errors import AlreadyRunning, CorruptState
from shared.bus import keys

FILE = "identity.json"

T = TypeVar("T")


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


class StateDirectory:
    """The agent's directory, held by this process until it ends.

    interface: held as well, within this network namespace. Raises AlreadyRunning when another agent holds either.
    """

    def __init__(self, path: Path, interface: str) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        claimed = _claim(interface)
        try:
            self._held = (claimed, _lock(path / "lock"))
        except AlreadyRunning:
            claimed.close()
            raise

    def load(self) -> Identity:
        """The identity, made and durable when there was none.

        Raises CorruptState, with the file set aside, when it cannot be read.
        """
        file = self.path / FILE
        if not file.exists():
            identity = Identity(
                wireguard_key=base64.b64encode(bytes(PrivateKey.generate())).decode(), bus_seed=keys.new_seed("user")
            )
            self.save(identity)
            return identity
        try:
            identity = msgspec.json.decode(file.read_bytes(), type=Identity)
            _ = identity.public_key, identity.bus_key
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, nkeys.NkeysError):
            aside = set_aside(file)
            raise CorruptState(
                f"{file} is corrupt and was set aside as {aside.name}: put a copy back, or enrol anew with --setup-key",
                str(aside),
            ) from None
        return identity

    def save(self, identity: Identity) -> None:
        """Durable once this returns, the directory entry included."""
        keys.write_secret(self.path / FILE, msgspec.json.encode(identity).decode() + "\n")
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def set_aside(file: Path) -> Path:
    """The name the file has now: itself with `.corrupt-<n>`, the lowest number that is free. Nothing is deleted."""
    number = 1
    while (aside := file.with_name(f"{file.name}.corrupt-{number}")).exists():
        number += 1
    return file.rename(aside)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(
            f"state directory {path.parent} is in use by another agent: stop it with `whimbrel down`, "
            "or choose another directory with --state-dir"
        ) from None
    return descriptor


def _claim(interface: str) -> socket.socket:
    """A name in this network namespace that the kernel frees when the process ends, however it ends."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        name.bind(f"\0whimbrel/{interface}")
    except OSError as problem:
        name.close()
        if problem.errno != errno.EADDRINUSE:
            raise
        raise AlreadyRunning(
            f"interface {interface} is in use by another agent: stop it with `whimbrel down`, "
            "or choose another with --interface, --port and --state-dir"
        ) from None
    return name
