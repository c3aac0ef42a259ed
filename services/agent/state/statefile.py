"""Values the agent keeps from run to run. Each file says whether it is whole; one that is not is set aside."""

import hashlib
import threading
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import structlog

from services.agent.core.dns.hostdns import FileBefore
from services.agent.core.dns.learned import LearnedBefore
from services.agent.core.documents import LastGood
from services.agent.core.ha.standing import Switch
from services.agent.core.routing.choices import Selection
from shared import files

DIGEST_BYTES = 16

T = TypeVar("T")

log = structlog.get_logger()


class StateFile(Generic[T]):
    """One value in one file. `value`: what was kept, `initial` when nothing was or the file is corrupt."""

    def __init__(self, file: Path, type_: type[T], initial: T) -> None:
        self._file = file
        self._type = type_
        self._turn = threading.Lock()
        self.value = self._read(initial)

    def keep(self, value: T) -> None:
        """Durable once this returns. Nothing is written when it is kept already."""
        with self._turn:
            if value != self.value or not self._file.exists():
                files.write(self._file, sealed(value))
                self.value = value

    def _read(self, initial: T) -> T:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return initial
        except IsADirectoryError:
            content = b""
        digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        try:
            if digest == _digest(body):
                return msgspec.msgpack.decode(body, type=self._type)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # whole, but of another version
        aside = files.set_aside(self._file, "corrupt")
        log.warning("state file is corrupt, set aside, going on without it", file=str(self._file), aside=aside.name)
        return initial


class Picture(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a host needs to forward with no control plane in reach, and to find it again.

    endpoints: peer id → where WireGuard reached it. bus: host → its addresses, see dial.Dialer.
    """

    feed: LastGood = LastGood()
    endpoints: dict[str, str] = {}
    bus: dict[str, tuple[str, ...]] = {}


class _Settings(msgspec.Struct, frozen=True, array_like=True):
    life: str = ""
    values: dict[str, str] = {}


def picture(directory: Path) -> StateFile[Picture]:
    return StateFile(directory / "lastgood", Picture, Picture())


def selection(directory: Path) -> StateFile[Selection]:
    """What people chose with `networks select`."""
    return StateFile(directory / "selection", Selection, Selection())


def own_ways(directory: Path) -> StateFile[dict[str, str]]:
    """Routed networks that this host had a way of its own into → the device it was by (core/ha/candidacy.py)."""
    return StateFile(directory / "ways", dict[str, str], {})


def switches(directory: Path) -> StateFile[tuple[Switch, ...]]:
    """The last switches between routing peers, oldest first."""
    return StateFile(directory / "switches", tuple[Switch, ...], ())


def learned(directory: Path) -> StateFile[LearnedBefore]:
    """Addresses that routing peers answered to questions of this host."""
    return StateFile(directory / "learned", LearnedBefore, LearnedBefore())


def resolv_conf(directory: Path) -> StateFile[FileBefore]:
    """What /etc/resolv.conf was before it was ours."""
    return StateFile(directory / "resolv.conf", FileBefore, FileBefore())


class Originals:
    """Kernel settings as they were before the agent changed them, path → value (core/reconcile/sysctls.py).

    life: names the time for which they hold, see host.life_of_settings. Those of another life are forgotten: the host
    itself has set everything anew since, and perhaps otherwise.
    """

    def __init__(self, directory: Path, life: str) -> None:
        self._file = StateFile(directory / "sysctls", _Settings, _Settings())
        self._life = life

    @property
    def value(self) -> dict[str, str]:
        kept = self._file.value
        return kept.values if kept.life == self._life else {}

    def keep(self, value: dict[str, str]) -> None:
        """Durable once this returns."""
        self._file.keep(_Settings(life=self._life, values=value))


def next_epoch(directory: Path, wall: float) -> int:
    """Unix milliseconds, yet greater than in any run before, also when the clock was set back. wall: unix seconds.

    On a disk that takes nothing more the host goes on, and the next run relies on its clock.
    """
    last = StateFile(directory / "epoch", int, 0)
    epoch = max(int(wall * 1000), last.value + 1)
    try:
        last.keep(epoch)
    except OSError as problem:
        log.warning("cannot keep the epoch of this run on disk", problem=problem.strerror or str(problem))
    return epoch


def sealed(value: object) -> bytes:
    """The value as it stands in a file: a digest, then MessagePack."""
    body = msgspec.msgpack.encode(value)
    return _digest(body) + body


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()
