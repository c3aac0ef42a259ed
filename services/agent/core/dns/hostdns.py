"""What programs of this host are to be told of whom to ask, and which program of the host tells them."""

from typing import Literal, TypeAlias

import msgspec

from services.agent.core.dns.resolvconf import ResolvConf, bounded_search
from services.agent.core.dns.rules import Rules

Mechanism: TypeAlias = Literal["systemd-resolved", "resolvconf", "file", "none"]

RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")
"""Where systemd-resolved answers; who finds one of these in the file asks it."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """server: address that the resolver of this host answers on.

    domains: what it is asked for, where a mechanism can tell names apart; default: whether for all others as well.
    search: tried behind names that are no whole ones.
    """

    server: str
    domains: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    default: bool = False


class FileBefore(msgspec.Struct, frozen=True, kw_only=True):
    """What /etc/resolv.conf was before it was ours. kept: whether anything was noted, and is to be put back.

    there: whether there was anything. link: to where, "" for a file. text: what it said, also behind a link; Latin-1,
    so that any bytes are put back as they were.
    """

    kept: bool = False
    there: bool = False
    link: str = ""
    text: str = ""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What there is on a host. resolv_conf: text of the file, None where there is none.

    resolved: whether systemd-resolved is on the system's D-Bus. resolvconf: whether that command is there.
    foreign: why the file is not this host's to write, "" if it is.
    """

    resolv_conf: str | None
    resolved: bool = False
    resolvconf: bool = False
    foreign: str = ""


def wanted(address: str, rules: Rules) -> Wanted | None:
    """None while nobody answers at `address` ("")."""
    if not address or not rules.managed:
        return None
    return Wanted(server=address, domains=rules.domains, search=rules.search, default=rules.default)


def mechanism(there: Surroundings, own: ResolvConf) -> Mechanism:
    """own: what the file says. A program that is installed and not asked by anybody tells nobody anything."""
    if there.foreign:
        return "none"
    if there.resolved and any(server in RESOLVED_STUBS for server in own.servers):
        return "systemd-resolved"
    if there.resolvconf and there.resolv_conf is not None and "resolvconf" in _comments(there.resolv_conf):
        return "resolvconf"
    return "file"


MARK = "# Written by whimbrel, which puts back what was here when it stops."


def is_ours(text: str) -> bool:
    return text.startswith(MARK)


def resolv_conf(wanted: Wanted, own: ResolvConf) -> str:
    """Our text of the file: one server, which knows whom to ask for what, and so nothing to rotate between."""
    search = bounded_search(wanted.search)
    options = [option for option in own.options if option != "rotate"]
    lines = [MARK, f"nameserver {wanted.server}"]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join((*lines, ""))


def _comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith(("#", ";")))
