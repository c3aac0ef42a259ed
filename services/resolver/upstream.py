"""DNS servers. The only module of the resolver with a socket to them."""

import asyncio
import re
from ipaddress import ip_address
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import structlog

from services.resolver.core.answers import Answer, usable
from shared.errors import BadSetting
from shared.metrics import REGISTRY, Counter

RESOLV_CONF = Path("/etc/resolv.conf")

PER_TRY_S = 2.0
"""One server's time for one try."""

PER_QUESTION_S = 5.0
"""All servers' and tries' time for one question; then the name has failed."""

_BRACKETED = re.compile(r"\[(.*)\](?::(\d+))?\Z")

log = structlog.get_logger()

_failed = Counter("whimbrel_resolver_failed_questions", "Questions without an answer", ["family"], registry=REGISTRY)


class DnsServers:
    """Looks names up at the configured servers, or at those in /etc/resolv.conf, which is read again when it changes.

    servers: "address", "address:port" or "[address]:port". Raises BadSetting for anything else.
    """

    def __init__(self, servers: tuple[str, ...]) -> None:
        self._resolver = _resolver(servers) if servers else dns.asyncresolver.Resolver(configure=False)
        self._follows_host = not servers
        self._read_at = 0

    async def look_up(self, name: str) -> Answer:
        self._follow_host()
        v4, v6 = await asyncio.gather(self._ask(name, "A"), self._ask(name, "AAAA"))
        return Answer(v4=v4, v6=v6)

    @property
    def addresses(self) -> list[str]:
        """The servers asked at present."""
        return [str(server) for server in self._resolver.nameservers]

    async def _ask(self, name: str, family: str) -> tuple[str, ...] | None:
        try:
            answer = await self._resolver.resolve(f"{name}.", family, search=False, lifetime=PER_QUESTION_S)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.DNSException, OSError) as problem:
            _failed.labels(family).inc()
            log.debug("question failed", name=name, family=family, problem=type(problem).__name__)
            return None
        return usable(record.address for record in answer)

    def _follow_host(self) -> None:
        if not self._follows_host:
            return
        try:
            changed_at = RESOLV_CONF.stat().st_mtime_ns
            if changed_at == self._read_at:
                return
            self._resolver = _tuned(dns.asyncresolver.Resolver(str(RESOLV_CONF)))
            self._read_at = changed_at
        except (OSError, dns.resolver.NoResolverConfiguration) as problem:
            log.debug("no DNS servers of the host", file=str(RESOLV_CONF), problem=str(problem))


def _resolver(servers: tuple[str, ...]) -> dns.asyncresolver.Resolver:
    resolver = _tuned(dns.asyncresolver.Resolver(configure=False))
    resolver.nameservers = [dns.nameserver.Do53Nameserver(*address_and_port(server)) for server in servers]
    return resolver


def _tuned(resolver: dns.asyncresolver.Resolver) -> dns.asyncresolver.Resolver:
    resolver.timeout = PER_TRY_S
    resolver.use_edns(0, 0, 1232)  # larger answers without TCP; the size of DNS flag day 2020
    return resolver


def address_and_port(text: str) -> tuple[str, int]:
    """A server as it is written in the settings; raises BadSetting."""
    address, port = text, "53"
    if bracketed := _BRACKETED.match(text):
        address, port = bracketed[1], bracketed[2] or "53"
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ip_address(address)
        number = int(port)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise BadSetting(
            "--dns-servers (WHIMBREL_DNS_SERVERS)", 'write "address", "address:port" or "[address]:port" of each server'
        )
    return address, number
