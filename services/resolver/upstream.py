"""DNS servers. The only module of the resolver with a socket to them."""

import asyncio
import socket
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.inet
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import structlog
from dns.asyncbackend import StreamSocket  # type: ignore[attr-defined]

from services.resolver.core.answers import Answer, usable
from services.resolver.core.questions import Question
from services.resolver.core.servers import PORT, Standing, parse_server, written
from shared.errors import BadSetting
from shared.events.documents import ResolvingDoc, UpstreamServer
from shared.metrics import REGISTRY, Counter

RESOLV_CONF = Path("/etc/resolv.conf")

PER_TRY_S = 2.0
"""One server's time for one try."""

PER_QUESTION_S = 5.0
"""All servers' and tries' time for one question; then the name has failed."""

PAYLOAD = 1232
"""Larger answers without TCP; the size of DNS flag day 2020."""

IDLE_TLS = 16
"""Connections to one server that are kept for its next questions."""

log = structlog.get_logger()

_failed = Counter("whimbrel_resolver_failed_questions", "Questions without an answer", ["family"], registry=REGISTRY)


class DnsServers:
    """Looks names up at DNS servers: those of an account, where it has any, else the resolver's own.

    servers: the resolver's own, as `parse_server` reads them; raises BadSetting for anything else. Without any those in
    /etc/resolv.conf, which is read again when it changes. ca: PEM file of whom to trust where TLS is spoken, the
    system's authorities by default; raises BadSetting when it cannot be read.
    """

    def __init__(
        self, servers: tuple[str, ...], ca: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.of_accounts: Mapping[str, ResolvingDoc] = {}
        self._own = _parsed(servers)
        self._follows_host = not servers
        self._read_at = 0
        self._standing = Standing()
        self._clock = clock
        self._tls = _TlsConnections(_trust(ca))

    async def look_up(self, question: Question) -> Answer:
        chosen = self.of_accounts.get(question.account)
        servers = chosen.servers if chosen is not None and chosen.servers else self.own()
        asked = (self._ask(servers, question.name, family) for family in ("A", "AAAA"))
        (v4, source), (v6, other_source) = await asyncio.gather(*asked)
        return Answer(v4=v4, v6=v6, source=source if v4 else other_source if v6 else source or other_source)

    def own(self) -> tuple[UpstreamServer, ...]:
        """The servers that are asked for accounts without any."""
        if self._follows_host:
            self._follow_host()
        return self._own

    async def _ask(
        self, servers: tuple[UpstreamServer, ...], name: str, family: str
    ) -> tuple[tuple[str, ...] | None, str]:
        """The addresses, and who said so; None when nobody did. Who is silent, or fails to, gets a second try."""
        query = dns.message.make_query(f"{name}.", family, use_edns=0, payload=PAYLOAD)
        until = self._clock() + PER_QUESTION_S
        turns = list(self._standing.order(servers, self._clock()))
        again: list[UpstreamServer] = []
        while (turns or again) and (left_s := until - self._clock()) > 0.0:
            if not turns:
                turns, again = again, []
            server = turns.pop(0)
            try:
                reply = await self._exchange(server, query, min(PER_TRY_S, left_s))
                self._standing.answered(server)
                found = _addresses(reply)
            except (dns.exception.Timeout, TimeoutError):
                self._standing.missed(server, self._clock())
                again.append(server)
                continue
            except (dns.exception.DNSException, OSError, EOFError) as problem:
                log.debug("no answer", name=name, family=family, server=written(server), problem=repr(problem))
                continue
            if found is not None:
                return found, written(server)
        _failed.labels(family).inc()
        return None, ""

    async def _exchange(
        self, server: UpstreamServer, query: dns.message.QueryMessage, within_s: float
    ) -> dns.message.Message:
        if server.tls:
            async with asyncio.timeout(within_s):
                return await self._tls.exchange(server, query, within_s)
        reply, _ = await dns.asyncquery.udp_with_fallback(
            query, server.address, within_s, server.port, ignore_unexpected=True, ignore_errors=True
        )
        return reply

    def _follow_host(self) -> None:
        try:
            changed_at = RESOLV_CONF.stat().st_mtime_ns
            if changed_at == self._read_at:
                return
            found = dns.resolver.Resolver(str(RESOLV_CONF))
            self._own = tuple(UpstreamServer(str(address), PORT) for address in found.nameservers)
            self._read_at = changed_at
        except (OSError, dns.resolver.NoResolverConfiguration) as problem:
            log.debug("no DNS servers of the host", file=str(RESOLV_CONF), problem=str(problem))


class _TlsConnections:
    """DNS over TLS (RFC 7858): one question at a time on a connection, which is kept for the next one."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        self._idle: defaultdict[UpstreamServer, list[StreamSocket]] = defaultdict(list)

    async def exchange(
        self, server: UpstreamServer, query: dns.message.QueryMessage, within_s: float
    ) -> dns.message.Message:
        idle = self._idle[server]
        while idle:  # the server may have closed it meanwhile
            try:
                return await self._on(idle.pop(), server, query, within_s)
            except (EOFError, ConnectionError):
                continue
        return await self._on(await self._connect(server, within_s), server, query, within_s)

    async def _on(
        self,
        connection: StreamSocket,
        server: UpstreamServer,
        query: dns.message.QueryMessage,
        within_s: float,
    ) -> dns.message.Message:
        whole = False
        try:
            reply = await dns.asyncquery.tcp(query, server.address, within_s, server.port, sock=connection)
            whole = True
            return reply
        finally:
            if whole and len(self._idle[server]) < IDLE_TLS:
                self._idle[server].append(connection)
            else:
                await connection.close()  # type: ignore[no-untyped-call]

    async def _connect(self, server: UpstreamServer, within_s: float) -> StreamSocket:
        """Raises OSError, also for a certificate that does not hold."""
        return await dns.asyncbackend.get_default_backend().make_socket(  # type: ignore[no-any-return, no-untyped-call]
            dns.inet.af_for_address(server.address),
            socket.SOCK_STREAM,
            0,
            None,
            (server.address, server.port),
            within_s,
            self._trust,
            server.name or server.address,
        )


def _addresses(reply: dns.message.Message) -> tuple[str, ...] | None:
    """What the answer says of the name, () when it has no such address; None when another server may know more."""
    if reply.rcode() == dns.rcode.NXDOMAIN:
        return ()
    if reply.rcode() != dns.rcode.NOERROR or not isinstance(reply, dns.message.QueryMessage):
        return None
    return usable(record.address for record in reply.resolve_chaining().answer or ())


def _parsed(servers: tuple[str, ...]) -> tuple[UpstreamServer, ...]:
    try:
        return tuple(map(parse_server, servers))
    except ValueError:
        raise BadSetting(
            "--dns-servers (WHIMBREL_DNS_SERVERS)",
            'write "address", "address:port" or "[address]:port" of each server, "tls://address#name" for DNS over TLS',
        ) from None


def _trust(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as problem:
        raise BadSetting("--dns-ca (WHIMBREL_DNS_CA)", f"{ca} cannot be read: {problem.strerror or problem}") from None
