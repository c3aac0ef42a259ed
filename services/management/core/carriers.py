"""How many connected clients use which routing peer for which route, counted from their reports as they come."""

from collections.abc import Iterable
from typing import TypeAlias

Client: TypeAlias = tuple[str, str]
"""Account and peer."""

Choices: TypeAlias = tuple[tuple[str, str], ...]
"""Route and routing peer, sorted."""


class Carriers:
    """Of each client what it reported last, and the counts of those that are connected.

    A report names 500 routes, and clients of one office name the same ones: equal choices are one object.
    """

    def __init__(self) -> None:
        self._choices: dict[Client, Choices] = {}
        self._connected: set[Client] = set()
        self._shared: dict[Choices, tuple[Choices, int]] = {}
        self._pairs: dict[tuple[str, str], tuple[tuple[str, str], int]] = {}
        self._counts: dict[tuple[str, str, str], int] = {}

    def clients(self, account: str, route: str, routing_peer: str) -> int:
        return self._counts.get((account, route, routing_peer), 0)

    def chosen(self, client: Client, choices: Iterable[tuple[str, str]]) -> None:
        """The client uses these routing peers by route, of which one named twice counts once; none, once it is gone."""
        new, old = tuple(sorted(dict(choices).items())), self._choices.get(client, ())
        if new == old:
            return
        if client in self._connected:
            self._count(client[0], set(old) - set(new), -1)
            self._count(client[0], set(new) - set(old), 1)
        self._choices.pop(client, None)
        if new:
            self._choices[client] = self._share(new)
        self._unshare(old)

    def connected(self, client: Client, connected: bool) -> None:
        if connected is (client in self._connected):
            return
        if connected:
            self._connected.add(client)
        else:
            self._connected.discard(client)
        self._count(client[0], self._choices.get(client, ()), 1 if connected else -1)

    def _count(self, account: str, choices: Iterable[tuple[str, str]], number: int) -> None:
        for route, routing_peer in choices:
            key = account, route, routing_peer
            count = self._counts.get(key, 0) + number
            if count:
                self._counts[key] = count
            else:
                del self._counts[key]

    def _share(self, choices: Choices) -> Choices:
        """An equal object that is kept already, where there is one."""
        known, users = self._shared.get(choices, (None, 0))
        if known is None:
            known = tuple(self._share_pair(pair) for pair in choices)
        self._shared[known] = known, users + 1
        return known

    def _unshare(self, choices: Choices) -> None:
        if not choices:
            return
        known, users = self._shared[choices]
        if users > 1:
            self._shared[choices] = known, users - 1
            return
        del self._shared[choices]
        for pair in known:
            first, number = self._pairs[pair]
            if number > 1:
                self._pairs[pair] = first, number - 1
            else:
                del self._pairs[pair]

    def _share_pair(self, pair: tuple[str, str]) -> tuple[str, str]:
        known, number = self._pairs.get(pair, (pair, 0))
        self._pairs[known] = known, number + 1
        return known
