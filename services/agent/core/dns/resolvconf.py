"""The text of /etc/resolv.conf: what it says, and what it shall say."""

from ipaddress import ip_address

import msgspec

from shared.events.documents import DnsServer

SEARCH_DOMAINS = 6
SEARCH_BYTES = 256
"""What every C library reads of search domains; more of them were ignored before glibc 2.26."""

DNS_PORT = 53


class ResolvConf(msgspec.Struct, frozen=True, kw_only=True):
    """servers: addresses in order. options: words."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """Lines that make no sense are left out; of several with search domains the last one counts, as everywhere."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        word, *values = line.partition("#")[0].partition(";")[0].split() or [""]
        match word:
            case "nameserver" if values and _is_address(values[0]):
                servers.append(values[0])
            case "search" | "domain" if values:
                search = tuple(value.rstrip(".").lower() for value in values if value.strip("."))
            case "options":
                options += values
    return ResolvConf(servers=tuple(servers), search=search, options=tuple(options))


def upstream(host: ResolvConf, own: str) -> tuple[DnsServer, ...]:
    """Whom the host asks by itself. own: the address that we answer on, which is never asked."""
    return tuple(DnsServer(server, DNS_PORT) for server in dict.fromkeys(host.servers) if server != own)


def bounded_search(domains: tuple[str, ...]) -> tuple[str, ...]:
    """The first ones that every program reads."""
    found: list[str] = []
    for domain in domains[:SEARCH_DOMAINS]:
        if len(" ".join((*found, domain))) > SEARCH_BYTES:
            break
        found.append(domain)
    return tuple(found)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
