"""One question to several servers at their time (core/dns/race.py)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import dns.message

from services.agent.core.dns.messages import extended_errors
from services.agent.core.dns.race import Race, Standings, verdict
from shared.events.documents import DnsServer


class Servers(Protocol):
    """One question to one server: dns/exchange.py. None where there is no answer."""

    def ask(
        self, server: DnsServer, sent: dns.message.Message, *, tcp: bool = False
    ) -> Coroutine[Any, Any, dns.message.Message | None]: ...


class Won(NamedTuple):
    """The answer that counts, and whose."""

    message: dns.message.Message
    server: DnsServer


class Racing:
    """clock: seconds on the clock of the event loop."""

    def __init__(self, servers: Servers, clock: Callable[[], float]) -> None:
        self._servers = servers
        self._clock = clock
        self.standings = Standings()

    async def ask(
        self, groups: tuple[tuple[DnsServer, ...], ...], sent: dns.message.Message, *, tcp: bool
    ) -> Won | None:
        """The first answer that counts, None when nobody gave one in time."""
        now = self._clock()
        race = Race([self.standings.ordered(group, now) for group in groups], now)
        asked: dict[asyncio.Task[dns.message.Message | None], DnsServer] = {}
        try:
            while not race.is_over(now):
                for server in race.due(now):
                    asked[asyncio.create_task(self._servers.ask(server, sent, tcp=tcp))] = server
                done, _ = await asyncio.wait(
                    asked, timeout=max(0.0, race.next_deadline() - now), return_when=asyncio.FIRST_COMPLETED
                )
                now = self._clock()
                for task in done:
                    server, message = asked.pop(task), task.result()
                    if message is not None and verdict(message.rcode(), extended_errors(message)) == "final":
                        self.standings.answered(server)
                        return Won(message, server)
                    race.failed(server, now)
            return None
        finally:
            for server in race.silent(now):
                self.standings.was_silent(server, now)
            for task in asked:
                task.cancel()
