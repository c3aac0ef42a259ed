"""The nameservers of this host, as its own programs ask them."""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from services.agent.core.dns.resolvconf import parse
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

BEHIND_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
"""The servers that systemd-resolved asks. It would lead a routed name back to where clients of this host ask for it."""
NOBODY = "this host has no nameserver: name one in /etc/resolv.conf"
ONLY_US = "this host has no nameserver but itself: name another one in /etc/resolv.conf"
STUBS = frozenset({"127.0.0.53", "127.0.0.54"})

TRIES_S = (1.0, 1.5, 1.5)
"""Each server in turn, or the same one again: within the 5 s and more that clients wait."""
SET_BACK_S = 30.0
"""A server that did not answer is asked after the others for so long."""
LARGEST_BYTES = 65_535


class Nameservers:
    """addresses: who is asked. problem: why there is nobody to ask, "" while there is."""

    def __init__(self, behind: Path = BEHIND_RESOLVED, port: int = 53) -> None:
        self._behind, self._port = behind, port
        self._slow_until: dict[str, float] = {}
        self.addresses: tuple[str, ...] = ()
        self.problem = NOBODY

    def use(self, servers: Iterable[str], own: Collection[str]) -> None:
        """Ask these servers of the host, but for its own addresses: who answers there asks us."""
        listed = tuple(servers)
        if listed and STUBS.issuperset(listed):
            listed = _servers(self._behind) or listed
        self.addresses = tuple(one for one in listed if one not in own)
        self.problem = "" if self.addresses else ONLY_US if listed else NOBODY

    async def ask(self, question: Question, packet: bytes, never: Callable[[str], str]) -> Answer:
        """What the nameservers say, in the end."""
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


def _servers(file: Path) -> tuple[str, ...]:
    try:
        return parse(file.read_text(errors="replace")).servers
    except OSError:
        return ()


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
