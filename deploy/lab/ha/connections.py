"""Connections of the client into the LAN while its gateway changes: a transfer, one that says nothing, and requests."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from deploy.lab import probes
from deploy.lab.lab import LabFailed
from deploy.lab.netns import Namespace
from deploy.lab.topology import LAN_HOST_V4, WEB_PORT

OPEN_LIMIT_S = 5.0
REQUEST_LIMIT_S = 10.0
PAUSE_S = 0.01
GET = "GET {} HTTP/1.0\r\n\r\n"


class Held:
    """One TCP connection of the client to the LAN's web server."""

    def __init__(self, client: Namespace) -> None:
        self._socket = client.call(socket.create_connection, (LAN_HOST_V4, WEB_PORT), OPEN_LIMIT_S)

    def transfer(self) -> None:
        """Ask for an answer without an end."""
        self._socket.sendall(GET.format("/endless").encode())
        self.flows(OPEN_LIMIT_S)

    def flows(self, limit_s: float) -> bool:
        """Whether something comes in time, after what is there already; False as well when it was reset."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 16):
                pass
            return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        return bool(select.select([self._socket], [], [], limit_s)[0]) and self.ended(0.0) is None

    def ended(self, limit_s: float) -> float | None:
        """The moment (time.perf_counter) it was reset; None when it was not within the limit. Nothing is sent."""
        watch = select.poll()
        watch.register(self._socket, 0)  # errors and a hang-up alone
        return time.perf_counter() if watch.poll(limit_s * 1000) else None

    def answers(self) -> bool:
        """Whether the server answers on it."""
        self._socket.settimeout(OPEN_LIMIT_S)
        try:
            self._socket.sendall(GET.format("/").encode())
            return self._socket.recv(1 << 16).startswith(b"HTTP/1.")
        except OSError:
            return False

    def close(self) -> None:
        self._socket.close()


class Requests(msgspec.Struct):
    """Requests one after the other, each on a connection of its own. slowest_s: of those that were answered."""

    done: int = 0
    slowest_s: float = 0.0
    failed: list[str] = []


@contextmanager
def requesting(client: Namespace) -> Iterator[Requests]:
    """Meanwhile the client fetches the LAN's page in a loop; what became of it is complete after that."""
    seen, end = Requests(failed=[]), threading.Event()
    own = Namespace(client.name, client.wireguard)

    def loop() -> None:
        while not end.wait(PAUSE_S):
            begin = time.perf_counter()
            answer = probes.fetch(LAN_HOST_V4, WEB_PORT, REQUEST_LIMIT_S)
            seen.done += 1
            if answer.startswith("failed"):
                seen.failed.append(answer)
            else:
                seen.slowest_s = max(seen.slowest_s, time.perf_counter() - begin)

    running = own.submit(loop)
    try:
        yield seen
    finally:
        end.set()
        try:
            running.result()
        finally:
            own.leave()
    if not seen.done:
        raise LabFailed("no request was made")
