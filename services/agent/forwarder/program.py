"""The forwarder's process: it answers questions, and has the agent permit addresses before anybody hears of them."""

import asyncio
import secrets
import socket
import time
from collections import Counter
from typing import NamedTuple

from services.agent.core.forwarder.forwarder import Ask, Fill, Forwarder, Send, Told
from services.agent.core.forwarder.messages import (
    LENGTH_BYTES,
    Filled,
    Follow,
    Permit,
    Resolve,
    Resolved,
    State,
    ToForwarder,
    framed,
    read_by_forwarder,
)
from services.agent.core.forwarder.questions import AAAA, MARK_BYTES, REFUSED, A
from services.agent.core.kernel import FORWARDER_PORT
from services.agent.forwarder.listening import AGAIN_S, Datagram, Listening
from services.agent.forwarder.nameservers import Nameservers
from shared.tasks import end_if_cancelled, first_of

TOLD_EVERY_S = 1.0


class Part(NamedTuple):
    """Who waits for one family of a name that is being resolved for the agent."""

    number: int
    kind: int


class Program:
    """Serves until the agent closes the connection, or is gone. rights: as in State."""

    def __init__(self, nameservers: Nameservers, port: int = FORWARDER_PORT, *, rights: str = "") -> None:
        self._rights = rights
        self._forwarder = Forwarder(secrets.token_bytes(MARK_BYTES))
        self._nameservers = nameservers
        self._listening = Listening(port, self._forwarder.hear, self._carry_out)
        self._resolving: dict[int, dict[int, Told]] = {}
        self._asking = set[asyncio.Task[None]]()
        self._timer: asyncio.TimerHandle | None = None
        self._told = State()
        self._writer: asyncio.StreamWriter

    async def run(self, connection: socket.socket) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=connection)
        await first_of(self._obey(reader), self._look_after())

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        """Do what the agent says, until it is gone."""
        try:
            while True:
                end_if_cancelled()
                size = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
                await self._do(read_by_forwarder(await reader.readexactly(size)))
        except (EOFError, OSError):
            return

    async def _do(self, message: ToForwarder) -> None:
        match message:
            case Follow(terms, nameservers):
                self._forwarder.follow(terms)
                self._nameservers.use(nameservers, {*terms.own, *terms.listen})
                self._listening.want(terms.listen)
                await self._listening.bind()
                self._tell()
            case Filled(number, problem):
                self._forwarder.filled(number, problem, time.monotonic())
            case Resolve(number, name):
                self._resolving[number] = {}
                for kind in (A, AAAA):
                    self._forwarder.resolve(name, kind, Part(number, kind), time.monotonic())
        self._carry_out()

    async def _look_after(self) -> None:
        """Listen where that failed, and tell the agent how things stand."""
        while True:
            end_if_cancelled()
            await self._listening.bind()
            self._tell()
            await asyncio.sleep(AGAIN_S if self._listening.unbound else TOLD_EVERY_S)

    def _carry_out(self) -> None:
        for command in self._forwarder.take():
            match command:
                case Ask():
                    task = asyncio.create_task(self._ask(command))
                    self._asking.add(task)
                    task.add_done_callback(self._asking.discard)
                case Fill(number, routes, name, addresses, for_s):
                    self._writer.write(framed(Permit(number, routes, name, addresses, for_s)))
                case Send(client, packet):
                    if isinstance(client, Datagram | asyncio.StreamWriter):
                        self._listening.send(client, packet)
                case Told(client):
                    if isinstance(client, Part):
                        self._resolved(client, command)
        self._wake_at(self._forwarder.next_at())

    async def _ask(self, command: Ask) -> None:
        answer = await self._nameservers.ask(command.question, command.packet, self._forwarder.never)
        self._forwarder.answered(command.number, answer, time.monotonic())
        self._carry_out()

    def _wake_at(self, at: float | None) -> None:
        """Both clocks are the monotonic one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._advance)

    def _advance(self) -> None:
        self._timer = None
        self._forwarder.advance(time.monotonic())
        self._carry_out()

    def _resolved(self, part: Part, told: Told) -> None:
        found = self._resolving[part.number]
        found[part.kind] = told
        if len(found) == 2:
            del self._resolving[part.number]
            self._writer.write(framed(_united(part.number, found[A], found[AAAA])))

    def _tell(self) -> None:
        state = State(
            listening=self._listening.addresses,
            unbound=dict(self._listening.unbound),
            nameservers=self._nameservers.addresses,
            problem=self._nameservers.problem,
            counts=dict(Counter(self._forwarder.counts)),
            left_out=dict(self._forwarder.left_out),
            rights=self._rights,
        )
        if state != self._told:
            self._told = state
            self._writer.write(framed(state))


def _united(number: int, v4: Told, v6: Told) -> Resolved:
    """What both families come to."""
    if REFUSED in (v4.answer.rcode, v6.answer.rcode):
        return Resolved(number, problem="this host serves no such name")
    said = [one for one in (v4, v6) if not one.answer.failed]
    if not said:
        return Resolved(number, problem="the nameservers of this host do not answer")
    return Resolved(number, _addresses(v4), _addresses(v6), min(one.ttl_s for one in said))


def _addresses(told: Told) -> tuple[str, ...] | None:
    return None if told.answer.failed else told.answer.addresses
