"""The process behind a WireGuard device in user space: started, found again, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

from services.agent.drivers.wireguard.uapi import Silent, connect
from services.agent.errors import MechanismMissing

PROGRAM = "wireguard-go"
SOCKETS = Path("/run/wireguard")
START_WITHIN_S = 10.0
END_WITHIN_S = 3.0
FIRST_LOOK_S, LAST_LOOK_S = 0.002, 0.05
"""Time between looks for the socket while it starts: it takes 10 ms, and nothing reports that it listens."""

UCRED = struct.Struct("=iII")
"""ucred: pid, uid, gid of the process that listens (unix(7), SO_PEERCRED)."""


class WireGuardGoProcess:
    """wireguard-go for one interface, ours or one that a predecessor left. socket: where it listens."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self.socket = SOCKETS / f"{interface}.sock"
        self._child: subprocess.Popen[bytes] | None = None

    async def pid(self) -> int | None:
        """The process that listens on the socket, None when nobody does."""
        try:
            _, writer = await connect(self.socket)
        except Silent:
            return None
        try:
            credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
            return int(UCRED.unpack(credentials)[0])
        finally:
            writer.close()

    def deaf(self) -> list[int]:
        """Processes for the interface in this network namespace that nobody can speak to: their socket is gone.

        Each ends by itself at a time of its own choosing, and then removes the socket of whoever has it by now. None of
        this agent's is a process that cannot be looked at: it may serve another network namespace.
        """
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[:3] == [PROGRAM.encode(), b"-f", self._interface.encode()] and _is_seen_here(int(entry.name)):
                    found.append(int(entry.name))
        return found

    async def start(self) -> None:
        """Start one and come back when it listens. Raises MechanismMissing when it does not."""
        self.reap()
        self._child = child = self._spawn()
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._listening(child)
        except TimeoutError:
            child.kill()
            raise MechanismMissing(f"{PROGRAM} did not open {self.socket} within {START_WITHIN_S:.0f} s") from None

    async def end(self, pid: int) -> None:
        """Ask the process to end, make it end, and come back when it is gone, with its socket."""
        await _end(pid)
        self.socket.unlink(missing_ok=True)
        self.reap()

    def reap(self) -> None:
        """Take notice of a child that ended, so that no zombie stays."""
        if self._child and self._child.poll() is not None:
            self._child = None

    def _spawn(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [PROGRAM, "-f", self._interface],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Nothing else of our environment, which may hold a setup key.
                env={"PATH": os.environ.get("PATH", os.defpath), "LOG_LEVEL": "silent"},
                cwd="/",
                start_new_session=True,  # what is sent to the agent's process group, Ctrl-C for one, is not for it
            )
        except FileNotFoundError:
            raise MechanismMissing(f"{PROGRAM} is missing: apt install {PROGRAM}") from None

    async def _listening(self, child: "subprocess.Popen[bytes]") -> None:
        look = FIRST_LOOK_S
        while await self.pid() != child.pid:
            if child.poll() is not None:
                raise MechanismMissing(
                    f"{PROGRAM} ended with {child.returncode}: see what "
                    f"`LOG_LEVEL=error {PROGRAM} -f {self._interface}` says"
                )
            await asyncio.sleep(look)
            look = min(2 * look, LAST_LOOK_S)


def is_here(pid: int) -> bool:
    """Whether the process is in the network namespace of this thread, as far as we may see."""
    return _is_seen_here(pid) is not False


def _is_seen_here(pid: int) -> bool | None:
    """None for a process that may do more than this agent, into which it may not look."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/thread-self/ns/net").st_ino
    except OSError:
        return None


async def _end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for ask in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, ask)
            if await _ended(handle):
                return
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


async def _ended(handle: int) -> bool:
    """Whether the process behind the handle ends within END_WITHIN_S."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
    return True
