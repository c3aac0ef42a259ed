"""Which entry of a table an address belongs to: the one with the longest prefix that covers it."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from services.agent.core.intervals import Network, Version

V = TypeVar("V")

_BITS: dict[Version, int] = {4: 32, 6: 128}


class Longest(Generic[V]):
    """Made of prefix → value. An address costs a look for each length that any prefix has."""

    def __init__(self, entries: Mapping[Network, V]) -> None:
        self._values: dict[Version, dict[int, dict[int, V]]] = {4: {}, 6: {}}
        for network, value in entries.items():
            version: Version = 4 if network.version == 4 else 6
            shift = _BITS[version] - network.prefixlen
            self._values[version].setdefault(shift, {})[int(network.network_address) >> shift] = value
        self._shifts: dict[Version, list[int]] = {version: sorted(held) for version, held in self._values.items()}

    def at(self, version: Version, address: int) -> V | None:
        """The value for the address, None where no prefix covers it."""
        for shift in self._shifts[version]:
            if (found := self._values[version][shift].get(address >> shift)) is not None:
                return found
        return None

    def covering(self, network: Network) -> V | None:
        """The value of the longest prefix that the whole network is in."""
        version: Version = 4 if network.version == 4 else 6
        address, most = int(network.network_address), _BITS[version] - network.prefixlen
        for shift in self._shifts[version]:
            if shift >= most and (found := self._values[version][shift].get(address >> shift)) is not None:
                return found
        return None
