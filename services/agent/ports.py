"""What the loop needs of a mechanism. A driver observes what is ours, and upserts or deletes it, idempotently.

Errors come back per entry, key → one line for a person, so that a failing entry stays dirty and the rest goes on.
A driver raises only MechanismMissing (services/agent/errors.py), when the mechanism as a whole is not there.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from services.agent.core.kernel import ObservedRuleset, PeerStats, Ruleset, WireGuardDevice, WireGuardPeer

K = TypeVar("K")
V = TypeVar("V")


class Driver(Protocol[K, V]):
    """One kind of kernel entry: drivers/rtnl_links.py, rtnl_routes.py, rtnl_rules.py, sysctl.py."""

    async def observe(self) -> Mapping[K, V]: ...

    async def upsert(self, entries: Mapping[K, V]) -> Mapping[K, str]: ...

    async def delete(self, keys: Iterable[K]) -> Mapping[K, str]: ...


class WireGuardDriver(Protocol):
    """The WireGuard device behind one interface: drivers/wg_kernel.py and wg_uapi.py.

    `create` makes the interface when it is missing and adopts one that a predecessor left; `destroy` removes it.
    `name` is "kernel" or "wireguard-go".
    """

    name: str

    async def create(self) -> None: ...

    async def destroy(self) -> None: ...

    async def observe(self) -> tuple[WireGuardDevice | None, Mapping[str, WireGuardPeer]]: ...

    async def configure(self, device: WireGuardDevice) -> str | None: ...

    async def upsert(self, entries: Mapping[str, WireGuardPeer]) -> Mapping[str, str]: ...

    async def delete(self, keys: Iterable[str]) -> Mapping[str, str]: ...

    async def stats(self) -> Mapping[str, PeerStats]: ...


class RulesetDriver(Protocol):
    """nftables: drivers/nft.py. Each call is one transaction: wholly applied, or the error comes back and nothing is."""

    async def observe(self) -> ObservedRuleset: ...

    async def replace(self, ruleset: Ruleset) -> str | None: ...

    async def change(
        self, add: Mapping[str, frozenset[str]], remove: Mapping[str, frozenset[str]], shape: str
    ) -> str | None: ...

    async def destroy(self) -> str | None: ...
