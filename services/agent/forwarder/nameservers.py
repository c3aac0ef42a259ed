"""The nameservers of this host, as its own programs ask them."""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address
from pathlib import Path

import dns.resolver

from services.agent.core.forwarder.answers import (
    NETWORK_ERROR,
    UNREACHABLE,
    Answer,
    Unusable,
    answers_it,
    failure,
    is_cut_off,
    read_answer,
)
from services.agent.core.forwarder.questions import Question
from shared.tasks import end_if_cancelled

RESOLV_CONF = Path("/etc/resolv.conf")
BEHIND_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
"""The servers that systemd-resolved asks. It would lead a routed name back to where clients of this host ask for it."""
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})

TRIES_S = (1.0, 1.5, 1.5)
"""Each server in turn, or the same one again: within the 5 s and more that clients wait."""
SET_BACK_S = 30.0
"""A server that did not answer is asked after the others for so long."""
LARGEST_BYTES = 65_535


class Nameservers:
    """problem: why there is nobody to ask, "" while there is."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF, behind: Path = BEHIND_RESOLVED, port: int = 53) -> None:
        self._file, self._behind, self._port = resolv_conf, behind, port
        self._read: tuple[int, ...] | None = None
        self._listed: tuple[str, ...] = ()
        self._own: frozenset[str] = frozenset()
        self._slow_until: dict[str, float] = {}
        self.addresses: tuple[str, ...] = ()
        self.problem = ""

    def exclude(self, own: Collection[str]) -> None:
        """These addresses are this host's own: who answers there asks us."""
        self._own = frozenset(own)
        self._choose()

    def look(self) -> None:
        """Read the files again, where they changed."""
        stamp = _stamp(self._file, self._behind)
        if stamp == self._read:
            return
        self._read = stamp
        self._listed = _servers(self._file)
        if self._listed and STUBS.issuperset(self._listed):
            self._listed = _servers(self._behind) or self._listed
        self._choose()

    async def ask(self, question: Question, packet: bytes, never: Callable[[str], str]) -> Answer:
        """What the nameservers say, in the end."""
        self.look()
        now, why = time.monotonic(), UNREACHABLE
        order = sorted(self.addresses, key=lambda one: self._slow_until.get(one, 0.0) > now)
        if not order:
            return failure(NETWORK_ERROR)
        for number in range(max(len(TRIES_S), len(order))):
            server = order[number % len(order)]
            try:
                async with asyncio.timeout(TRIES_S[min(number, len(TRIES_S) - 1)]):
                    said = await _asked(server, self._port, question, packet)
                return read_answer(question, said, never)
            except TimeoutError:
                self._slow_until[server] = now + SET_BACK_S
            except Unusable as problem:
                why = problem.why
                if number + 1 >= len(order):
                    break  # each of them has spoken
            except (OSError, EOFError):
                why = NETWORK_ERROR
                self._slow_until[server] = now + SET_BACK_S
        return failure(why)

    def _choose(self) -> None:
        self.addresses = tuple(one for one in self._listed if one not in self._own)
        if self.addresses:
            self.problem = ""
        elif self._listed:
            self.problem = f"{self._file} names nobody but this host itself: add a nameserver"
        else:
            self.problem = f"{self._file} names no nameserver: add one"


def _stamp(*files: Path) -> tuple[int, ...]:
    found = []
    for one in files:
        try:
            about = one.stat()
            found += [about.st_mtime_ns, about.st_ino, about.st_size]
        except OSError:
            found.append(0)
    return tuple(found)


def _servers(file: Path) -> tuple[str, ...]:
    try:
        listed: Iterable[object] = dns.resolver.Resolver(str(file)).nameservers
    except (dns.resolver.NoResolverConfiguration, OSError, ValueError):
        return ()
    return tuple(dict.fromkeys(str(ip_address(one)) for one in map(str, listed) if _is_address(one)))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


async def _asked(server: str, port: int, question: Question, packet: bytes) -> bytes:
    """One server's answer to the question; from a port of its own, which nobody else knows (RFC 5452)."""
    loop = asyncio.get_running_loop()
    id = secrets.randbelow(1 << 16)
    asked = id.to_bytes(2) + packet[2:]
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as talking:
        talking.connect((server, port))
        talking.send(asked)
        while True:
            end_if_cancelled()
            said = await loop.sock_recv(talking, LARGEST_BYTES)
            if answers_it(question, id, said):
                break
    return await _by_tcp(server, port, question, id, asked) if is_cut_off(said) else said


async def _by_tcp(server: str, port: int, question: Question, id: int, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(len(asked).to_bytes(2) + asked)
        said = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if not answers_it(question, id, said):
        raise Unusable
    return said
