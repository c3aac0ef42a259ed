"""Hosts made of network namespaces: each with links, kernel state and a /run/wireguard of its own.

Built on iproute2's named namespaces, so `ip netns exec NAME` enters a host of ours too. A name stays until `remove`,
also when the process that made it is gone.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

RUN = Path("/run/whimbrel-lab")
"""RUN/<host>/wireguard is what a process on that host sees as WIREGUARD."""
WIREGUARD = Path("/run/wireguard")
NETNS = Path("/run/netns")

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19  # linux/mount.h

END_WITHIN_S = 5.0
"""How long the kernel may take to tear down a killed process."""

OWN_SOCKETS = f'mount --bind "$0" {WIREGUARD} && exec "$@"'


class Host:
    """A namespace called `name` on this machine, made by `create` and removed by `remove`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sockets = RUN / name / "wireguard"

    def exists(self) -> bool:
        return (NETNS / self.name).exists()

    def create(self) -> None:
        """Make the host: loopback up, IPv6 addresses usable at once. Raises FileExistsError when there is one."""
        if self.exists():
            raise FileExistsError(f"namespace {self.name} exists")
        self.sockets.mkdir(parents=True, exist_ok=True)
        WIREGUARD.mkdir(exist_ok=True)
        ip(f"netns add {self.name}")
        ip(f"-n {self.name} link set lo up")
        for group in ("all", "default"):  # no neighbour can hold the same address, so nobody has to wait for the check
            self.run("sysctl", "-qw", f"net.ipv6.conf.{group}.accept_dad=0")

    def remove(self) -> None:
        """End every process of the host and remove it with its links; nothing happens when there is none."""
        while running := self.processes():
            _end(running)
        if self.exists():
            ip(f"netns del {self.name}")
        shutil.rmtree(self.sockets.parent, ignore_errors=True)

    def processes(self) -> list[int]:
        """Process ids of everything that runs on the host, threads that only visit it aside."""
        if not self.exists():
            return []
        listed = subprocess.run(["ip", "netns", "pids", self.name], check=True, capture_output=True, text=True).stdout
        return [int(pid) for pid in listed.split()]

    def command(self, *argv: str) -> list[str]:
        """The words that run `argv` on the host; the process that they start becomes `argv` itself."""
        return ["ip", "netns", "exec", self.name, "sh", "-c", OWN_SOCKETS, str(self.sockets), *argv]

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> str:
        """What the command printed on the host. Raises CalledProcessError, with stderr, unless `check` is off."""
        done = subprocess.run(self.command(*argv), check=check, capture_output=True, text=True, input=stdin)
        return done.stdout

    def start(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """The command, started on the host with subprocess's options; its pid is the command's own."""
        return subprocess.Popen(self.command(*argv), **options)

    def enter(self) -> None:
        """Move the calling thread, and what it starts from now on, to the host for good."""
        with (NETNS / self.name).open() as namespace:
            _check(_libc.setns(namespace.fileno(), CLONE_NEWNET))
        _check(_libc.unshare(CLONE_NEWNS))
        _check(_libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))
        _check(_libc.mount(bytes(self.sockets), bytes(WIREGUARD), None, MS_BIND, None))

    def call(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises when a thread on the host calls it."""

        def visit() -> T:
            self.enter()
            return function()

        pool = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        try:
            return pool.submit(visit).result()
        finally:
            pool.shutdown(wait=False)


def connect(left: Host, left_device: str, right: Host, right_device: str) -> None:
    """Join two hosts by a cable, both ends up and without addresses."""
    ip(f"link add {left_device} netns {left.name} type veth peer name {right_device} netns {right.name}")
    for host, device in ((left, left_device), (right, right_device)):
        ip(f"-n {host.name} link set {device} up")


def ip(arguments: str) -> None:
    """Run iproute2's ip. Raises CalledProcessError, which holds its stderr."""
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True, text=True)


def _end(processes: list[int]) -> None:
    """Kill the processes and come back when they are gone."""
    for pid in processes:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], END_WITHIN_S)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
