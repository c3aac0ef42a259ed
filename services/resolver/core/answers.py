"""What a name's addresses become when a new answer arrives (decision R1)."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from shared.events.documents import ResolvedAddress
from shared.net.routable import unroutable

PER_NAME = 1_024
"""Addresses kept for one name at most (decision R1)."""

KEEP_MAX_AGE_S = 7 * 86_400.0
"""How long an address is kept after it was last seen (decision R1)."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one look-up of a name brought, by family: addresses, () for none of that family, None for no answer.

    source: who said so, as in ResolvedName.
    """

    v4: tuple[str, ...] | None
    v6: tuple[str, ...] | None
    source: str = ""

    @property
    def empty(self) -> bool:
        """Neither family brought an address: the name failed, does not exist, or has none."""
        return not self.v4 and not self.v6


class KeepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """max_age_s: 0 keeps for ever."""

    per_name: int = PER_NAME
    max_age_s: float = KEEP_MAX_AGE_S


def usable(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses a route may lead to, in canonical text, sorted, each once.

    Those that no host would route are left out: whoever owns the name could otherwise take a piece of every client's
    own host into the tunnel.
    """
    return tuple(sorted({str(parsed) for parsed in map(_plain, addresses) if not unroutable(ip_network(parsed))}))


def fold(
    known: tuple[ResolvedAddress, ...], answer: Answer, *, keep: bool, now: float, limits: KeepLimits
) -> tuple[ResolvedAddress, ...]:
    """The name's addresses after the answer, sorted.

    An answer without any address changes nothing, whatever the reason. Otherwise a family that was answered holds
    the new addresses, which do not expire while they are current; with `keep` also those seen earlier, which
    expire max_age_s after they were last seen. A family that was not answered stays as it is.
    now: unix seconds.
    """
    if answer.empty:
        return known
    current = {*(answer.v4 or ()), *(answer.v6 or ())}
    answered = {version for version, addresses in ((4, answer.v4), (6, answer.v6)) if addresses is not None}
    addresses = [ResolvedAddress(address, now, 0.0) for address in current]
    for was in known:
        if was.address in current:
            continue
        if _version(was.address) not in answered:
            addresses.append(was)
        elif keep and not _expired(was, now, limits):
            addresses.append(ResolvedAddress(was.address, was.last_seen, _expiry(was, limits)))
    return _bounded(addresses, limits)


def restored(addresses: Iterable[ResolvedAddress], now: float) -> tuple[ResolvedAddress, ...]:
    """Addresses out of a fact. One that was current then counts as seen now: the fact does not say when it last was."""
    return tuple(
        address if address.expires_at else ResolvedAddress(address.address, now, 0.0) for address in sorted(addresses)
    )


def merged(
    mine: Iterable[ResolvedAddress], theirs: Iterable[ResolvedAddress], limits: KeepLimits
) -> tuple[ResolvedAddress, ...]:
    """What either of two replicas keeps; an address that is current for one of them is current."""
    best: dict[str, ResolvedAddress] = {}
    for address in (*mine, *theirs):
        other = best.get(address.address)
        if other is None or _strength(address) > _strength(other):
            best[address.address] = address
    return _bounded(best.values(), limits)


def succeeded(
    mine: Iterable[ResolvedAddress], theirs: Iterable[ResolvedAddress], now: float, limits: KeepLimits
) -> tuple[ResolvedAddress, ...]:
    """What a replica that only follows keeps: `theirs`, and of its own what they do not know of and has not expired."""
    newest = {address.address: address for address in theirs}
    own = (each for each in mine if each.address not in newest and not 0.0 < each.expires_at <= now)
    return _bounded((*newest.values(), *own), limits)


def alike(one: tuple[ResolvedAddress, ...], other: tuple[ResolvedAddress, ...]) -> bool:
    """Whether a reader would do the same with both. When a current address was last seen makes no difference."""
    return [(each.address, each.expires_at) for each in one] == [(each.address, each.expires_at) for each in other]


def _strength(address: ResolvedAddress) -> tuple[bool, float]:
    return address.expires_at == 0.0, address.last_seen


def _bounded(addresses: Iterable[ResolvedAddress], limits: KeepLimits) -> tuple[ResolvedAddress, ...]:
    """Sorted; the longest unseen go first."""
    newest = sorted(addresses, key=lambda each: (-each.last_seen, each.address))[: limits.per_name]
    return tuple(sorted(newest))


def _expiry(address: ResolvedAddress, limits: KeepLimits) -> float:
    return address.last_seen + limits.max_age_s if limits.max_age_s else 0.0


def _expired(address: ResolvedAddress, now: float, limits: KeepLimits) -> bool:
    return bool(limits.max_age_s) and now >= _expiry(address, limits)


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return (address.version == 6 and address.ipv4_mapped) or address
