"""Network namespaces as hosts: made, entered by a thread or a process, and always removable."""

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NETNS = Path("/run/netns")
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 1 << 19  # linux/mount.h
_COMMAND_LIMIT_S = 20.0
_LOOK_EVERY_S = 0.01

_ENTER = 'mkdir -p "$0" /run/wireguard && mount --bind "$0" /run/wireguard && exec "$@"'
"""Shell of a process that gets a /run/wireguard of its host: $0 is the folder, $@ what to run."""


class CommandFailed(Exception):
    """Read what the tool says: `command` ended with `code`, its last words are `output`."""

    def __init__(self, command: str, code: int, output: str) -> None:
        super().__init__(f"`{command}` ended with {code}: {output.strip() or 'no output'}")
        self.command = command
        self.code = code
        self.output = output


def run(*words: str) -> str:
    """What a command prints; raises CommandFailed when it ends with anything but 0."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S, check=False)
    if done.returncode:
        raise CommandFailed(" ".join(words), done.returncode, done.stderr or done.stdout)
    return done.stdout


def _enter(name: str, wireguard: Path) -> None:
    """Move the calling thread, it alone and what it starts, into the namespace with its /run/wireguard."""
    libc = ctypes.CDLL(None, use_errno=True)
    sockets = Path("/run/wireguard")
    for folder in (wireguard, sockets):
        folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        failed = (
            libc.setns(descriptor, _CLONE_NEWNET)
            or libc.unshare(_CLONE_NEWNS)
            or libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
            or libc.mount(bytes(wireguard), bytes(sockets), None, _MS_BIND, None)
        )
        if failed:
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {name}")
    finally:
        os.close(descriptor)


class Namespace:
    """One host. `name` is its name for `ip netns`.

    wireguard: folder that stands in for /run/wireguard in every process started here, so that wireguard-go's sockets of
    two hosts never meet and a later process of the same host finds those of an earlier one.
    """

    def __init__(self, name: str, wireguard: Path) -> None:
        self.name = name
        self.wireguard = wireguard
        self._thread: ThreadPoolExecutor | None = None

    @property
    def exists(self) -> bool:
        return (_NETNS / self.name).exists()

    def create(self) -> None:
        """Make the namespace with its loopback up; raises CommandFailed when the name is taken."""
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def remove(self) -> None:
        """End the entering thread and remove the namespace. Processes in it must have ended. Idempotent."""
        self.leave()
        if self.exists:
            run("ip", "netns", "delete", self.name)

    def leave(self) -> None:
        """End the thread that `call` and `submit` use."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None

    def ip(self, *words: str) -> str:
        """What `ip` prints inside the namespace."""
        return run("ip", "-n", self.name, *words)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start a function in this process's thread inside the namespace; calls queue up."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, self.name, initializer=_enter, initargs=(self.name, self.wireguard))
        return self._thread.submit(function, *args, **kwargs)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns, run inside the namespace: its sockets are the host's."""
        return self.submit(function, *args, **kwargs).result()

    def command(self, words: Iterable[str]) -> list[str]:
        """The command line that runs `words` as a process of this host, with its own /run/wireguard."""
        return ["ip", "netns", "exec", self.name, "sh", "-c", _ENTER, str(self.wireguard), *words]

    def spawn(
        self, words: Iterable[str], *, log: IO[bytes] | int, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process of this host in a session of its own; `log` takes both its outputs."""
        self.wireguard.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            self.command(words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """Ids of all processes that are in the namespace now."""
        here = os.stat(_NETNS / self.name).st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    inside = os.stat(entry / "ns/net").st_ino == here
                except OSError:
                    continue  # it ended while we looked
                if inside and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return sorted(found)


def connect(left: Namespace, left_interface: str, right: Namespace, right_interface: str) -> None:
    """A cable between two hosts: a veth pair, both ends up and carrying.

    A link that has just been set up drops what is sent until the kernel's watcher of links has seen its carrier, which
    a busy machine puts off for a second. Raises TimeoutError.
    """
    left.ip("link", "add", left_interface, "type", "veth", "peer", "name", right_interface, "netns", right.name)
    left.ip("link", "set", left_interface, "up")
    right.ip("link", "set", right_interface, "up")
    for host, interface in ((left, left_interface), (right, right_interface)):
        _await_carrier(host, interface)


def _await_carrier(host: Namespace, interface: str) -> None:
    until = time.monotonic() + _COMMAND_LIMIT_S
    while " state UP " not in host.ip("-oneline", "link", "show", "dev", interface):
        if time.monotonic() > until:
            raise TimeoutError(f"{interface} of {host.name} has no carrier")
        time.sleep(_LOOK_EVERY_S)


def address(host: Namespace, interface: str, prefix: str) -> None:
    """Give an interface an address with prefix length; an IPv6 one is usable at once (no duplicate detection)."""
    host.ip("address", "add", prefix, "dev", interface, *(("nodad",) if ":" in prefix else ()))
