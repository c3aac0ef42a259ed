"""Addresses that routing peers answered to questions of this host, and how long they are routed (decision R1).

The resolver's facts tell of the names of routes ahead of time; these are of the same kind, and add to them.
"""

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.intervals import Network
from services.agent.core.parsed import Resolution, ResolvedTo, address_of, alone
from services.agent.core.routing.hagroups import HaKey, ha_key

Address: TypeAlias = IPv4Address | IPv6Address

PER_NAME = 1024
"""Addresses of one name (R1); those that were not seen for longest go first."""

NAMES = 20_000
"""Of all routes, so that a wildcard cannot fill the kernel; those not asked for for longest go first."""

KEEP_S = 7 * 86_400.0
"""How long an address is routed after an answer last had it (R1), and one without keep_route after the last answer."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Canonical address → unix seconds at which an answer last had it."""

    name: str
    addresses: Mapping[str, float]


class LearnedBefore(msgspec.Struct, frozen=True, array_like=True):
    """What is kept on disk: HA group → its names."""

    groups: tuple[tuple[HaKey, tuple[Seen, ...]], ...] = ()


Resolved: TypeAlias = Mapping[HaKey, Mapping[str, ResolvedTo]]
"""HA group → name → its addresses; what did not change is the same object as before."""


class Learned:
    """now: unix seconds, in every method. Names are in lower case without a trailing dot."""

    def __init__(self, before: LearnedBefore = LearnedBefore()) -> None:
        self._seen = {key: {one.name: dict(one.addresses) for one in names} for key, names in before.groups}
        self._resolved: dict[HaKey, dict[str, ResolvedTo]] = {}
        self._told: dict[HaKey, Mapping[str, ResolvedTo]] = {}
        for key, names in self._seen.items():
            self._resolved[key] = {name: _resolved(name, addresses) for name, addresses in names.items()}

    def take(
        self, key: HaKey, name: str, version: int, addresses: Collection[Address], now: float, *, keep: bool
    ) -> bool:
        """An answer has these addresses of one family; gives whether other addresses are to be routed.

        keep: they add to the former ones; otherwise they replace those of the family. An answer without any changes
        nothing: it may be the name that is broken.
        """
        if not addresses:
            return False
        names = self._seen.setdefault(key, {})
        former = names.pop(name, {})  # put back as the newest
        kept = former if keep else {text: at for text, at in former.items() if (":" in text) != (version == 6)}
        found = {**kept, **{str(address): now for address in addresses}}
        if len(found) > PER_NAME:
            found = dict(sorted(found.items(), key=lambda one: one[1])[-PER_NAME:])
        names[name] = found
        is_news = found.keys() != former.keys()
        if is_news:
            self._put(key, name, found)
        overfull = sum(map(len, self._seen.values())) > NAMES
        if overfull:
            self._drop_oldest(key)
        return is_news or overfull

    def held(self, key: HaKey, name: str) -> Collection[str]:
        """The canonical addresses of a name that are to be routed; an answer may have had more of them."""
        return self._seen.get(key, {}).get(name, {}).keys()

    def expire(self, now: float) -> bool:
        """Whether addresses are no longer to be routed, since no answer had them for KEEP_S."""
        old = [
            (key, name, text)
            for key, names in self._seen.items()
            for name, addresses in names.items()
            for text, at in addresses.items()
            if now - at >= KEEP_S
        ]
        for key, name, text in old:
            del self._seen[key][name][text]
            self._put(key, name, self._seen[key][name])
        return bool(old)

    def restrict(self, keys: Collection[HaKey]) -> bool:
        """Whether anything went with the groups that this host no longer uses: only these stay."""
        gone = self._seen.keys() - set(keys)
        for key in gone:
            del self._seen[key]
            self._resolved.pop(key, None)
            self._told.pop(key, None)
        return bool(gone)

    def resolved(self) -> Resolved:
        """A snapshot."""
        for key, names in self._resolved.items():
            if key not in self._told:
                self._told[key] = dict(names)
        return dict(self._told)

    def seen(self) -> LearnedBefore:
        """What to keep on disk."""
        return LearnedBefore(
            tuple(
                (key, tuple(Seen(name, dict(addresses)) for name, addresses in names.items()))
                for key, names in self._seen.items()
                if names
            )
        )

    def _put(self, key: HaKey, name: str, addresses: dict[str, float]) -> None:
        names = self._resolved.setdefault(key, {})
        self._told.pop(key, None)
        if addresses:
            names[name] = _resolved(name, addresses, names.get(name))
        else:
            del names[name], self._seen[key][name]

    def _drop_oldest(self, key: HaKey) -> None:
        """Of the group with most names, whoever fills the table; never the newest name of the group `key`."""
        largest = max(self._seen, key=lambda one: len(self._seen[one]) - (one == key))
        self._put(largest, next(iter(self._seen[largest])), {})


class Joined:
    """The documents together with what was learned, for whoever asks where a route leads."""

    def __init__(self) -> None:
        self._given: tuple[Documents, Resolved] | None = None
        self._joined = Documents()
        self._by_route: dict[str, tuple[Resolution | None, Mapping[str, ResolvedTo], Resolution]] = {}

    def update(self, documents: Documents, learned: Resolved) -> Documents:
        """The documents with more resolutions; parts that stay are the same objects as last time."""
        given = self._given
        if given is None or given[0] is not documents or given[1] is not learned:
            self._joined = self._join(documents, learned)
            self._given = documents, learned
        return self._joined

    def _join(self, documents: Documents, learned: Resolved) -> Documents:
        added: dict[str, Resolution] = {}
        by_route = {}
        for route_id, route in documents.routes.items() if learned else ():
            names = learned.get(ha_key(route)) if route.names else None
            if not names:
                continue
            told, former = documents.resolutions.get(route_id), self._by_route.get(route_id)
            if former is not None and former[0] is told and former[1] is names:
                added[route_id] = former[2]
            else:
                added[route_id] = Resolution(route_id, (*(told.names if told else ()), *names.values()))
            by_route[route_id] = told, names, added[route_id]
        self._by_route = by_route
        return replace(documents, resolutions={**documents.resolutions, **added}) if added else documents


def addresses_of(texts: Iterable[str]) -> tuple[Address, ...]:
    """Those that make sense, IPv4 written as IPv6 as IPv4."""
    found = (address_of(text) for text in texts)
    return tuple(
        address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
        for address in found
        if address is not None
    )


def _resolved(name: str, addresses: Collection[str], former: ResolvedTo | None = None) -> ResolvedTo:
    """former: what of it stays is not parsed again."""
    known = dict(zip(former.addresses, former.networks, strict=True)) if former else {}
    parsed = ((text, known.get(text) or _parsed(text)) for text in addresses)
    there = {text: network for text, network in parsed if network is not None}
    return ResolvedTo(name, tuple(there), tuple(there.values()))


def _parsed(text: str) -> Network | None:
    address = address_of(text)
    return None if address is None else alone(address)
